DELETE FROM wafer_data.alerting_note WHERE name = ANY ($1::text[])
