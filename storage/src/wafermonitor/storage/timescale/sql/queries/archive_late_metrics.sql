-- Late points of days before $1 for which nobody keeps a partition ($2: days that the store answers for), at most $3.
SELECT t.*, s.name AS site, m.key, m.name, m.unit, m.type, m.temporality, m.monotonic, m.attributes,
  -- include record_source
  1
FROM (
  SELECT * FROM wafer_data.metric_late
  WHERE time < ($1::date)::timestamp AT TIME ZONE 'UTC' AND (time AT TIME ZONE 'UTC')::date <> ALL ($2::date[])
  LIMIT $3
) t
JOIN wafer_data.metric_series m ON m.series_id = t.series_id
JOIN wafer_data.resource r ON r.resource_id = m.resource_id
JOIN wafer_data.site s ON s.site_id = r.site_id
JOIN wafer_data.scope c ON c.scope_id = m.scope_id
