-- $2 now, if somebody else says what time it is.
UPDATE wafer_data.silence SET until_unix_ns = coalesce($2::bigint, wafer_data.now_ns())
WHERE silence_id = $1 AND created_unix_ns <= coalesce($2, wafer_data.now_ns()) AND until_unix_ns > coalesce($2, wafer_data.now_ns())
RETURNING true
