CREATE TEMPORARY TABLE staged_{table} (LIKE wafer_data.{table}) ON COMMIT DROP
