-- Of each (site $1, job $2), by its place, the newest $3 runs that ended: no more are read, however many sites share the job. The twin of
-- `pasts.history`.
SELECT w.place, w.site, r.*
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY w (site, job, place)
JOIN wafer_data.site s ON s.name = w.site
CROSS JOIN LATERAL (
  SELECT
    r.job, r.site_id, r.trace_id, r.span_id, r.start_unix_ns, r.end_unix_ns, r.result, r.error_type, r.equipment, r.recipe, r.product,
    r.memory_bytes
  FROM wafer_data.run r
  WHERE r.job = w.job AND r.site_id = s.site_id AND r.start_time > '-infinity'
  ORDER BY r.start_time DESC, r.start_unix_ns DESC
  LIMIT $3
) r
ORDER BY w.place, r.start_unix_ns DESC, r.trace_id, int8send(r.span_id)
