-- Those that wait, and those created at $1 or later; the oldest first.
SELECT
  -- include watch_delivery_columns
FROM wafer_data.delivery WHERE state = 'waiting' OR created_unix_ns >= $1
ORDER BY created_unix_ns, delivery_id
