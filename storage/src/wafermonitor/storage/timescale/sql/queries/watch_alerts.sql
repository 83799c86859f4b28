-- The newest opened first. $1 sites, $2 jobs, $3 rules, $4 severities, $5 open or not, $6 acknowledged or not, $7 … $9 a run's site, trace and
-- span, $10 … $11 opened from and to, $12 … $13 (opened, id) of the last one of the page before, $14 how many.
SELECT
  -- include watch_alert_columns
FROM wafer_data.alert
WHERE ($1::text[] IS NULL OR site = ANY ($1))
  AND ($2::text[] IS NULL OR job = ANY ($2))
  AND ($3::text[] IS NULL OR rule = ANY ($3))
  AND ($4::smallint[] IS NULL OR severity = ANY ($4))
  AND ($5::boolean IS NULL OR (resolved_unix_ns IS NULL) = $5)
  AND ($6::boolean IS NULL OR (acknowledged_unix_ns IS NOT NULL) = $6)
  AND ($8::uuid IS NULL OR (run_trace_id = $8 AND run_span_id = $9::bigint AND run_site = $7::text))
  AND ($10::bigint IS NULL OR opened_unix_ns >= $10)
  AND ($11::bigint IS NULL OR opened_unix_ns < $11)
  AND ($12::bigint IS NULL OR (opened_unix_ns <= $12 AND (opened_unix_ns < $12 OR alert_id > $13::text COLLATE "C")))
ORDER BY opened_unix_ns DESC, alert_id
LIMIT $14
