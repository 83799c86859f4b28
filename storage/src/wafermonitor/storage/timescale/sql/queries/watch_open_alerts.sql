SELECT
  -- include watch_alert_columns
FROM wafer_data.alert WHERE resolved_unix_ns IS NULL
ORDER BY opened_unix_ns, alert_id
