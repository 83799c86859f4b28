-- Runs by site and job that ended in [least, most), how many of them badly, how many past their deadline. The twin of `pasts.tallies`;
-- what ended then was heard of since, or up to an hour before by a clock that is ahead.
SELECT
  site, job.2, count(), countIf(ending.3 IN ('failure', 'error', 'timeout')),
  countIf(deadline_ns.1 > 0 AND ending.2 > deadline_ns.2)
FROM run FINAL
PREWHERE (trace_id, span_id, site) IN (
  SELECT trace_id, span_id, site
  FROM run_start
  WHERE ended AND received >= toDateTime(greatest(intDiv({least:Int64}, 1000000000) - 3600, 0), 'UTC')
)
WHERE ending.1 > 0 AND bitTest(ending.5, 0) AND ending.2 >= {least:Int64} AND ending.2 < {most:Int64} AND job.1 > 0
GROUP BY site, job.2
ORDER BY site, job.2
