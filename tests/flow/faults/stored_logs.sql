-- Every log record of one service ($1), hot and late, with what it refers to.
SELECT
  (extract(epoch FROM l.time) * 1000000)::bigint * 1000 + l.time_ns AS time_ns,
  (extract(epoch FROM l.observed_time) * 1000000)::bigint * 1000 + l.observed_ns AS observed_ns,
  replace(l.trace_id::text, '-', '') AS trace_id, l.span_id, l.severity, l.severity_text, l.event_name, l.flags,
  l.dropped_attributes, l.body, l.attributes,
  r.attributes AS resource, c.name AS scope, c.version AS scope_version, c.attributes AS scope_attributes
FROM (SELECT * FROM wafer_data.log_record UNION ALL SELECT * FROM wafer_data.log_late) AS l
JOIN wafer_data.resource AS r USING (resource_id)
JOIN wafer_data.scope AS c USING (scope_id)
WHERE r.service = $1
