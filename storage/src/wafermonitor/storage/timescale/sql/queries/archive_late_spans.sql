-- Late spans of days before $1 for which nobody keeps a partition ($2: days that the store answers for), at most $3.
SELECT t.*, s.name AS site,
  -- include record_source
  1
FROM (
  SELECT * FROM wafer_data.span_late
  WHERE start_time < ($1::date)::timestamp AT TIME ZONE 'UTC' AND (start_time AT TIME ZONE 'UTC')::date <> ALL ($2::date[])
  LIMIT $3
) t
JOIN wafer_data.site s ON s.site_id = t.site_id
JOIN wafer_data.resource r ON r.resource_id = t.resource_id
JOIN wafer_data.scope c ON c.scope_id = t.scope_id
