-- Newest root spans. $1 site, $2 service, $3 to $6 from and to (µs and ns), $7 to $11 (start, trace, span, site) of the page before.
-- By service, because that is the index: each gives its newest, and the page is the newest of those.
SELECT t.*, s.name AS site,
  -- include record_source
  1
FROM wafer_data.app a
CROSS JOIN LATERAL (
  SELECT * FROM (
    SELECT * FROM wafer_data.span
    UNION ALL
    SELECT * FROM wafer_data.span_late l
    WHERE NOT EXISTS (
      SELECT FROM wafer_data.span h
      WHERE (h.trace_id, h.span_id, h.start_time, h.site_id, h.start_ns)
        = (l.trace_id, l.span_id, l.start_time, l.site_id, l.start_ns)
    )
  ) u
  WHERE u.app_id = a.app_id AND u.parent_span_id IS NULL
    AND ($3::timestamptz IS NULL OR (u.start_time >= $3 AND (u.start_time, u.start_ns) >= ($3, $4::smallint)))
    AND ($5::timestamptz IS NULL OR (u.start_time <= $5 AND (u.start_time, u.start_ns) < ($5, $6::smallint)))
    AND ($7::timestamptz IS NULL OR (u.start_time <= $7 AND (
      (u.start_time, u.start_ns) < ($7, $8::smallint)
      OR ((u.start_time, u.start_ns) = ($7, $8) AND (u.trace_id, int8send(u.span_id)) >= ($9::uuid, $10::bytea))
    )))
  ORDER BY u.start_time DESC, u.start_ns DESC, u.trace_id, int8send(u.span_id)
  LIMIT $12 + 1
) t
JOIN wafer_data.site s ON s.site_id = t.site_id
JOIN wafer_data.resource r ON r.resource_id = t.resource_id
JOIN wafer_data.scope c ON c.scope_id = t.scope_id
WHERE ($1::text IS NULL OR a.site_id = (SELECT n.site_id FROM wafer_data.site n WHERE n.name = $1))
  AND ($2::text IS NULL OR a.service = $2)
  AND ($7 IS NULL OR (t.start_time, t.start_ns) < ($7, $8) OR (t.trace_id, int8send(t.span_id), s.name) > ($9, $10, $11::text))
ORDER BY t.start_time DESC, t.start_ns DESC, t.trace_id, int8send(t.span_id), s.name
LIMIT $12
