-- $1 how many, $2 for how many ns, $3 now, if somebody else says what time it is. What another claims at this moment is his.
WITH now AS MATERIALIZED (
  SELECT coalesce($3::bigint, wafer_data.now_ns()) AS ns
), due AS MATERIALIZED (
  SELECT d.delivery_id FROM wafer_data.delivery d, now n
  WHERE d.state = 'waiting' AND d.due_unix_ns <= n.ns AND coalesce(d.leased_until_unix_ns <= n.ns, true)
  ORDER BY d.created_unix_ns, d.delivery_id
  LIMIT $1
  FOR UPDATE OF d SKIP LOCKED
), claimed AS (
  UPDATE wafer_data.delivery d SET attempts = d.attempts + 1, leased_until_unix_ns = n.ns + $2::bigint
  FROM due, now n WHERE d.delivery_id = due.delivery_id
  RETURNING d.*
)
SELECT
  -- include watch_delivery_columns
FROM claimed ORDER BY created_unix_ns, delivery_id
