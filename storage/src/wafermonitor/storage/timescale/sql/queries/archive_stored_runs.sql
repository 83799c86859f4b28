-- Days before $1 on which a run started that has ended. Day by day, because the index then answers each with one look.
SELECT g.day::date AS day
FROM (SELECT min(start_time) AT TIME ZONE 'UTC' AS first FROM wafer_data.run WHERE start_time > '-infinity') f
CROSS JOIN LATERAL generate_series(date_trunc('day', f.first), ($1::date)::timestamp - interval '1 day', interval '1 day') AS g (day)
WHERE EXISTS (
  SELECT FROM wafer_data.run r
  WHERE r.start_time >= g.day AT TIME ZONE 'UTC' AND r.start_time < (g.day + interval '1 day') AT TIME ZONE 'UTC'
)
ORDER BY 1
