-- Of each (site $1, job $2), by its place, the newest $3 runs that ended; of a job of very many sites those among its newest 50 × $3.
-- The twin of `pasts.history`.
SELECT
  w.place, r.trace_id, r.span_id, w.site, r.start_unix_ns, r.end_unix_ns, r.result, r.error_type, r.equipment, r.recipe, r.product,
  r.memory_bytes
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY w (site, job, place)
JOIN wafer_data.site s ON s.name = w.site
CROSS JOIN LATERAL (
  SELECT n.*
  FROM (
    SELECT *
    FROM wafer_data.run r
    WHERE r.job = w.job AND r.start_time > '-infinity'
    ORDER BY r.start_time DESC, r.start_unix_ns DESC
    LIMIT 50 * $3::bigint
  ) n
  WHERE n.site_id = s.site_id
  LIMIT $3
) r
ORDER BY w.place, r.start_unix_ns DESC, r.trace_id, int8send(r.span_id)
