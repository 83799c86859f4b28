-- Spans of a site ($1) from $2 to before $3, in the order of the archive.
SELECT t.*, s.name AS site,
  -- include record_source
  1
FROM wafer_data.span t
JOIN wafer_data.site s ON s.site_id = t.site_id
JOIN wafer_data.resource r ON r.resource_id = t.resource_id
JOIN wafer_data.scope c ON c.scope_id = t.scope_id
WHERE t.site_id = (SELECT n.site_id FROM wafer_data.site n WHERE n.name = $1)
  AND t.start_time >= $2::timestamptz AND t.start_time < $3::timestamptz
ORDER BY t.trace_id, int8send(t.span_id), t.start_time, t.start_ns
