-- One that is done stays as it is; attempts made meanwhile count.
INSERT INTO wafer_data.delivery AS d (
  -- include watch_delivery_columns
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
ON CONFLICT (delivery_id) DO UPDATE SET
  channel = excluded.channel, kind = excluded.kind, group_key = excluded.group_key, alerts = excluded.alerts,
  created_unix_ns = excluded.created_unix_ns, due_unix_ns = excluded.due_unix_ns, state = excluded.state,
  attempts = greatest(d.attempts, excluded.attempts), answer = excluded.answer, settled_unix_ns = excluded.settled_unix_ns
WHERE d.state = 'waiting'
