-- How many spans each site has from $1 to before $2.
SELECT s.name AS site, t.rows
FROM (SELECT site_id, count(*) AS rows FROM wafer_data.span WHERE start_time >= $1::timestamptz AND start_time < $2::timestamptz GROUP BY 1) t
JOIN wafer_data.site s ON s.site_id = t.site_id ORDER BY s.name
