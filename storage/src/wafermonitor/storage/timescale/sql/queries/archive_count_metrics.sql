-- How many points each site has from $1 to before $2, of those that can be archived: whose names are all there.
SELECT s.name AS site, sum(t.rows)::bigint AS rows
FROM (SELECT series_id, count(*) AS rows FROM wafer_data.metric_point WHERE time >= $1::timestamptz AND time < $2::timestamptz GROUP BY 1) t
JOIN wafer_data.metric_series m ON m.series_id = t.series_id
JOIN wafer_data.resource r ON r.resource_id = m.resource_id
JOIN wafer_data.site s ON s.site_id = r.site_id
JOIN wafer_data.scope c ON c.scope_id = m.scope_id
GROUP BY s.name ORDER BY s.name
