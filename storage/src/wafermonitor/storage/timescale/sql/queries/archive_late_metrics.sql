-- Late points of days before $1 for which nobody keeps a partition ($2: days that the store answers for), at most $3, but none of
-- sites $4 on days $5. The limit is over all, so that rows whose names are not there keep no others out.
SELECT t.*, s.name AS site, m.key, m.name, m.unit, m.type, m.temporality, m.monotonic, m.attributes,
  -- include record_source
  1
FROM wafer_data.metric_late t
JOIN wafer_data.metric_series m ON m.series_id = t.series_id
JOIN wafer_data.resource r ON r.resource_id = m.resource_id
JOIN wafer_data.site s ON s.site_id = r.site_id
JOIN wafer_data.scope c ON c.scope_id = m.scope_id
WHERE t.time < ($1::date)::timestamp AT TIME ZONE 'UTC' AND (t.time AT TIME ZONE 'UTC')::date <> ALL ($2::date[])
  AND NOT EXISTS (
    SELECT FROM unnest($4::text[], $5::date[]) AS without (site, day)
    WHERE without.site = s.name AND without.day = (t.time AT TIME ZONE 'UTC')::date
  )
LIMIT $3
