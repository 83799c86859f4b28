-- Runs by site and job that ended in [$1, $2), how many of them badly, how many past their deadline. The twin of `pasts.tallies`.
SELECT
  s.name AS site, t.job, t.ended, t.bad, t.late
FROM (
  SELECT
    r.site_id, r.job, count(*) AS ended, count(*) FILTER (WHERE r.result IN ('failure', 'error', 'timeout')) AS bad,
    count(*) FILTER (WHERE r.end_unix_ns > r.deadline_unix_ns) AS late
  FROM wafer_data.run r
  WHERE r.end_unix_ns >= $1 AND r.end_unix_ns < $2 AND r.job IS NOT NULL
  GROUP BY r.site_id, r.job
) t
JOIN wafer_data.site s USING (site_id)
ORDER BY s.name COLLATE "C", t.job
