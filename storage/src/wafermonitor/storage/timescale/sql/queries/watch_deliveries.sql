-- Those that wait, those created at $1 or later, and those about an alert that is open; the oldest first.
SELECT
  -- include watch_delivery_columns
FROM wafer_data.delivery
WHERE state = 'waiting' OR created_unix_ns >= $1
  OR alerts && ARRAY(SELECT a.alert_id FROM wafer_data.alert a WHERE a.resolved_unix_ns IS NULL)
ORDER BY created_unix_ns, delivery_id
