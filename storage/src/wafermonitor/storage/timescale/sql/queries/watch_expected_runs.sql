-- The newest nominal time first. $1 sites, $2 jobs, $3 expectations, $4 states, $5 … $7 a run's site, trace and span, $8 … $9 from and to,
-- $10 … $12 (nominal time, expectation, subject) of the last one of the page before, $13 how many.
SELECT
  -- include watch_expected_columns
FROM wafer_data.expected_run
WHERE ($1::text[] IS NULL OR site = ANY ($1))
  AND ($2::text[] IS NULL OR job = ANY ($2))
  AND ($3::text[] IS NULL OR expectation = ANY ($3))
  AND ($4::text[] IS NULL OR state = ANY ($4))
  AND ($6::uuid IS NULL OR (run_trace_id = $6 AND run_span_id = $7::bigint AND run_site = $5::text))
  AND ($8::bigint IS NULL OR nominal_unix_ns >= $8)
  AND ($9::bigint IS NULL OR nominal_unix_ns < $9)
  AND ($10::bigint IS NULL OR (nominal_unix_ns <= $10 AND (nominal_unix_ns < $10 OR (expectation, subject) > ($11::text COLLATE "C", $12::text COLLATE "C"))))
ORDER BY nominal_unix_ns DESC, expectation, subject
LIMIT $13
