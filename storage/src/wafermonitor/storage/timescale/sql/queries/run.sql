-- Runs of a trace ($2), of one span ($3) or all, of one site ($4) or all, oldest first; a run by its ids is one of them.
SELECT
  -- include run_answer
FROM wafer_data.known_run r
-- include run_joins
WHERE r.trace_id = $2::uuid
  AND ($3::bigint IS NULL OR r.span_id = $3)
  AND ($4::text IS NULL OR s.name = $4)
ORDER BY r.start_unix_ns NULLS FIRST, int8send(r.span_id), s.name
LIMIT $5
