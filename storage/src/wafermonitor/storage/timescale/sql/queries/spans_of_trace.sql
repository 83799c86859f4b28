-- $1 trace, $2 span or null, $3 site, $4 service, $5 from, $6 to (ns), then (start, span, site) of the page before, oldest first.
-- A row that came late and again, after its day had been prepared, stands in both tables: DISTINCT tells it once. To look for each late
-- row in every day would take twice as long, although there are hardly any.
SELECT DISTINCT ON (t.start_time, t.start_ns, int8send(t.span_id), s.name) t.*, s.name AS site,
  -- include record_source
  1
FROM (SELECT * FROM wafer_data.span UNION ALL SELECT * FROM wafer_data.span_late) t
JOIN wafer_data.site s ON s.site_id = t.site_id
JOIN wafer_data.resource r ON r.resource_id = t.resource_id
JOIN wafer_data.scope c ON c.scope_id = t.scope_id
WHERE t.trace_id = $1::uuid
  AND ($2::bigint IS NULL OR t.span_id = $2)
  AND ($3::text IS NULL OR s.name = $3)
  AND ($4::text IS NULL OR r.service = $4)
  -- In a form that leaves out days although the plan was made without the values.
  AND t.start_time >= coalesce($5::timestamptz, '-infinity') AND t.start_time <= coalesce($7::timestamptz, 'infinity')
  AND ($5 IS NULL OR (t.start_time, t.start_ns) >= ($5, $6::smallint))
  AND ($7 IS NULL OR (t.start_time, t.start_ns) < ($7, $8::smallint))
  AND ($9::timestamptz IS NULL OR (t.start_time, t.start_ns, int8send(t.span_id), s.name) > ($9, $10::smallint, $11::bytea, $12::text))
ORDER BY t.start_time, t.start_ns, int8send(t.span_id), s.name
LIMIT $13
