-- What others made that would go with a native table by day.
SELECT DISTINCT f AS name FROM wafer_data.day_table t CROSS JOIN LATERAL wafer_data.foreign_dependants(t.name) f WHERE NOT t.is_hypertable ORDER BY f
