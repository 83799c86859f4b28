-- Points of a site ($1) from $2 to before $3, in the order of the archive.
SELECT t.*, s.name AS site, m.key, m.name, m.unit, m.type, m.temporality, m.monotonic, m.attributes,
  -- include record_source
  1
FROM wafer_data.metric_point t
JOIN wafer_data.metric_series m ON m.series_id = t.series_id
JOIN wafer_data.resource r ON r.resource_id = m.resource_id
JOIN wafer_data.site s ON s.site_id = r.site_id
JOIN wafer_data.scope c ON c.scope_id = m.scope_id
WHERE s.name = $1
  AND t.time >= $2::timestamptz AND t.time < $3::timestamptz
ORDER BY m.key, t.time, t.time_ns
