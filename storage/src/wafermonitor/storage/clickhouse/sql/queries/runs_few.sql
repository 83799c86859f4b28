-- The same where few runs can be meant: read once, with all columns.
SELECT
  -- include run_columns
FROM run FINAL
-- candidates
  -- include run_conditions
ORDER BY ifNull(start_ns, -9223372036854775808) DESC, trace_id, span_id, site
LIMIT {limit:UInt32}
