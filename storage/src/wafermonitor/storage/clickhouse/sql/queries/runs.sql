-- Runs whose start is in [least, most], newest first, behind the place of the page before. What stands between "if" and "end" is
-- left out where it is not asked for. Every condition may let too much through: the reader looks again. What is not known has r = 0;
-- a start that is not known is before all others. PREWHERE is about keys alone, for it is asked before rows of one key are merged.
SELECT
  -- include run_columns
FROM run FINAL
PREWHERE (trace_id, span_id, site) IN (
  SELECT trace_id, span_id, site
  FROM run FINAL
  -- candidates
  -- include run_conditions
  ORDER BY ifNull(start_ns, -9223372036854775808) DESC, trace_id, span_id, site
  LIMIT {limit:UInt32}
)
ORDER BY ifNull(start_ns, -9223372036854775808) DESC, trace_id, span_id, site
LIMIT {limit:UInt32}
