SELECT min(d.day) FROM wafer_data.day_table t CROSS JOIN LATERAL wafer_data.stored_days(t.name) d
