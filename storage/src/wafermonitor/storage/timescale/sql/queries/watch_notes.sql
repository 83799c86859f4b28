SELECT name, text FROM wafer_data.alerting_note ORDER BY name
