-- $1 site, $2 process or null, $3 service (asked only without a process), $4 to $7 from and to (µs and ns, both included), $8 names.
SELECT t.*, s.name AS site, m.key, m.name, m.unit, m.type, m.temporality, m.monotonic, m.attributes,
  -- include record_source
  1
FROM (
  -- Each in a form that has an index also where the plan was made without the values.
  SELECT * FROM wafer_data.resource WHERE process_key = $2::uuid
  UNION ALL
  SELECT * FROM wafer_data.resource WHERE $2 IS NULL AND service = $3::text
) r
JOIN wafer_data.site s ON s.site_id = r.site_id
JOIN wafer_data.metric_series m ON m.resource_id = r.resource_id
JOIN wafer_data.scope c ON c.scope_id = m.scope_id
CROSS JOIN LATERAL (
  SELECT * FROM wafer_data.metric_point p
  WHERE p.series_id = m.series_id AND p.time >= $4::timestamptz AND p.time <= $6::timestamptz
  UNION ALL
  SELECT * FROM wafer_data.metric_late l
  WHERE l.series_id = m.series_id AND l.time >= $4 AND l.time <= $6 AND NOT EXISTS (
    SELECT FROM wafer_data.metric_point h WHERE (h.series_id, h.time, h.time_ns) = (l.series_id, l.time, l.time_ns)
  )
) t
WHERE s.name = $1::text
  AND (t.time, t.time_ns) >= ($4, $5::smallint) AND (t.time, t.time_ns) <= ($6, $7::smallint)
  AND ($8::text[] IS NULL OR m.name = ANY ($8))
ORDER BY m.name, m.key, t.time, t.time_ns
LIMIT $9
