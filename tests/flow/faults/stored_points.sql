-- Every metric point of one service ($1), hot and late, with its series.
SELECT
  (extract(epoch FROM p.time) * 1000000)::bigint * 1000 + p.time_ns AS time_ns,
  (extract(epoch FROM p.start_time) * 1000000)::bigint * 1000 + p.start_ns AS start_ns,
  m.name, m.unit, m.type, m.temporality, m.monotonic, m.attributes,
  p.value, p.count, p.sum, p.min, p.max, p.bounds, p.buckets, p.quantile_values, p.flags,
  r.attributes AS resource, c.name AS scope, c.version AS scope_version, c.attributes AS scope_attributes
FROM (SELECT * FROM wafer_data.metric_point UNION ALL SELECT * FROM wafer_data.metric_late) AS p
JOIN wafer_data.metric_series AS m USING (series_id)
JOIN wafer_data.resource AS r USING (resource_id)
JOIN wafer_data.scope AS c ON c.scope_id = m.scope_id
WHERE r.service = $1
