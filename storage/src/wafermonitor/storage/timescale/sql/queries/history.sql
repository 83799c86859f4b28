-- Of each (site $1, job $2), by its place, the newest $3 runs that ended. A job's runs are read once for all its sites, and no more than
-- 50 × $3 of them: where more sites share a job, the newest among those. The twin of `pasts.history`.
WITH wanted AS MATERIALIZED (
  SELECT w.place, w.job, w.site, s.site_id
  FROM unnest($1::text[], $2::text[]) WITH ORDINALITY w (site, job, place)
  JOIN wafer_data.site s ON s.name = w.site
)
SELECT n.*
FROM (
  SELECT w.place, w.site, r.*, row_number() OVER (PARTITION BY w.place ORDER BY r.start_unix_ns DESC, r.trace_id) AS number
  FROM (SELECT job, CASE WHEN count(*) = 1 THEN min(site_id) END AS only_site FROM wanted GROUP BY job) a
  CROSS JOIN LATERAL (
    SELECT e.*
    FROM (
      SELECT
        r.job, r.site_id, r.trace_id, r.span_id, r.start_unix_ns, r.end_unix_ns, r.result, r.error_type, r.equipment, r.recipe,
        r.product, r.memory_bytes
      FROM wafer_data.run r
      WHERE r.job = a.job AND r.start_time > '-infinity'
      ORDER BY r.start_time DESC, r.start_unix_ns DESC
      LIMIT 50 * $3::bigint
    ) e
    WHERE a.only_site IS NULL OR e.site_id = a.only_site
    LIMIT CASE WHEN a.only_site IS NOT NULL THEN $3 END
  ) r
  JOIN wanted w ON w.job = r.job AND w.site_id = r.site_id
) n
WHERE n.number <= $3
ORDER BY n.place, n.start_unix_ns DESC, n.trace_id, int8send(n.span_id)
