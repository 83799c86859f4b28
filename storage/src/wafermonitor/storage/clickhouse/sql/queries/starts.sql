-- Runs of these jobs that began at `least` or later; of those whose start is not known what was heard since. Of each job at each site
-- the newest. What `run_start` says only proposes runs: `pasts.starts` decides.
SELECT
  -- include run_columns
FROM run FINAL
PREWHERE (trace_id, span_id, site) IN (
  SELECT trace_id, span_id, site
  FROM run_start
  WHERE hasAny(job, {jobs:Array(String)}) AND (
    start_ns >= {least:Int64}
    OR (start_ns = -9223372036854775808 AND received >= toDateTime(greatest(intDiv({least:Int64}, 1000000000) - 86400, 0), 'UTC'))
  )
)
WHERE has({jobs:Array(String)}, job.2) AND ifNull(start_ns, received_ns) >= {least:Int64}
ORDER BY ifNull(start_ns, received_ns) DESC
LIMIT {limit:UInt32} BY site, job.2
