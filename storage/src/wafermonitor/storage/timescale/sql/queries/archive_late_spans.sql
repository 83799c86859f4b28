-- Late spans of days before $1 for which nobody keeps a partition ($2: days that the store answers for), at most $3, but none of
-- sites $4 on days $5. The limit is over all, so that rows whose names are not there keep no others out.
SELECT t.*, s.name AS site,
  -- include record_source
  1
FROM wafer_data.span_late t
JOIN wafer_data.site s ON s.site_id = t.site_id
JOIN wafer_data.resource r ON r.resource_id = t.resource_id
JOIN wafer_data.scope c ON c.scope_id = t.scope_id
WHERE t.start_time < ($1::date)::timestamp AT TIME ZONE 'UTC' AND (t.start_time AT TIME ZONE 'UTC')::date <> ALL ($2::date[])
  AND NOT EXISTS (
    SELECT FROM unnest($4::text[], $5::date[]) AS without (site, day)
    WHERE without.site = s.name AND without.day = (t.start_time AT TIME ZONE 'UTC')::date
  )
LIMIT $3
