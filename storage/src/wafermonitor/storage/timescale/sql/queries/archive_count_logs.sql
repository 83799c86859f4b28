-- How many log records each site has from $1 to before $2.
SELECT s.name AS site, t.rows
FROM (SELECT site_id, count(*) AS rows FROM wafer_data.log_record WHERE time >= $1::timestamptz AND time < $2::timestamptz GROUP BY 1) t
JOIN wafer_data.site s ON s.site_id = t.site_id ORDER BY s.name
