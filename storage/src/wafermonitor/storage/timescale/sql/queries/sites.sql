SELECT name FROM wafer_data.site ORDER BY name
