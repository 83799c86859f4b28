SELECT
  -- include watch_alert_columns
FROM wafer_data.alert WHERE alert_id = $1
