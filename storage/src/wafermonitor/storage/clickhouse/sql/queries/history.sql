-- Of these jobs at these sites the newest runs that ended and began at `least` or later.
SELECT
  -- include run_columns
FROM run FINAL
PREWHERE (trace_id, span_id, site) IN (
  SELECT trace_id, span_id, site
  FROM run_start
  WHERE ended AND start_ns >= {least:Int64} AND hasAny(job, {jobs:Array(String)}) AND has({sites:Array(String)}, site)
  ORDER BY start_ns DESC
  LIMIT {limit:UInt32} BY site, job
)
WHERE ending.1 > 0 AND has({jobs:Array(String)}, job.2)
ORDER BY start_ns DESC
LIMIT {limit:UInt32} BY site, job.2
