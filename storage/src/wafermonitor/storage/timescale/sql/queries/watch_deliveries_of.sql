SELECT
  -- include watch_delivery_columns
FROM wafer_data.delivery WHERE alerts @> ARRAY[$1::text COLLATE "C"]
ORDER BY created_unix_ns, delivery_id
