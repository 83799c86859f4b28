-- $1 id, $2 state, $3 answer, $4 again in so many ns, $5 now, if somebody else says what time it is, $6 which attempt. What was sent is sent,
-- whichever attempt it was and even where it was dropped meanwhile; nothing else comes after an end, or of an attempt that is not the last.
UPDATE wafer_data.delivery SET
  state = $2, answer = $3, leased_until_unix_ns = NULL,
  due_unix_ns = CASE $2 WHEN 'waiting' THEN coalesce($5::bigint, wafer_data.now_ns()) + $4::bigint ELSE due_unix_ns END,
  settled_unix_ns = CASE $2 WHEN 'waiting' THEN NULL ELSE coalesce($5, wafer_data.now_ns()) END
WHERE delivery_id = $1 AND ((state = 'waiting' AND attempts = $6) OR ($2 = 'sent' AND state <> 'sent'))
