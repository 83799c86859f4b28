-- $1 trace, $2 span or null, $3 site, $4 least severity, $5 event names, $6 to $8 (time, digest) of the page before; oldest first.
SELECT t.*, s.name AS site,
  -- include record_source
  1
FROM (
  SELECT * FROM wafer_data.log_record
  UNION ALL
  SELECT * FROM wafer_data.log_late l
  WHERE NOT EXISTS (SELECT FROM wafer_data.log_record h WHERE (h.time, h.digest) = (l.time, l.digest))
) t
JOIN wafer_data.site s ON s.site_id = t.site_id
JOIN wafer_data.resource r ON r.resource_id = t.resource_id
JOIN wafer_data.scope c ON c.scope_id = t.scope_id
WHERE t.trace_id = $1::uuid
  AND ($2::bigint IS NULL OR t.span_id = $2)
  AND ($3::text IS NULL OR s.name = $3)
  AND t.severity >= $4::smallint
  AND ($5::text[] IS NULL OR t.event_name = ANY ($5))
  AND ($6::timestamptz IS NULL OR (t.time, t.time_ns, t.digest) > ($6, $7::smallint, $8::bytea))
ORDER BY t.time, t.time_ns, t.digest
LIMIT $9
