-- Every span of one service ($1), hot and late, with what it refers to.
SELECT
  replace(s.trace_id::text, '-', '') AS trace_id, s.span_id, s.parent_span_id,
  (extract(epoch FROM s.start_time) * 1000000)::bigint * 1000 + s.start_ns AS start_ns,
  s.duration_ns, s.name, s.kind, s.status, s.status_message, s.trace_state, s.flags,
  s.dropped_attributes, s.dropped_events, s.dropped_links, s.attributes, s.events, s.links,
  r.attributes AS resource, c.name AS scope, c.version AS scope_version, c.attributes AS scope_attributes
FROM (SELECT * FROM wafer_data.span UNION ALL SELECT * FROM wafer_data.span_late) AS s
JOIN wafer_data.resource AS r USING (resource_id)
JOIN wafer_data.scope AS c USING (scope_id)
WHERE r.service = $1
