-- How many log records each site has from $1 to before $2, of those that can be archived: whose names are all there.
SELECT s.name AS site, sum(t.rows)::bigint AS rows
FROM (
  SELECT site_id, resource_id, scope_id, count(*) AS rows FROM wafer_data.log_record
  WHERE time >= $1::timestamptz AND time < $2::timestamptz GROUP BY 1, 2, 3
) t
JOIN wafer_data.site s ON s.site_id = t.site_id
JOIN wafer_data.resource r ON r.resource_id = t.resource_id
JOIN wafer_data.scope c ON c.scope_id = t.scope_id
GROUP BY s.name ORDER BY s.name
