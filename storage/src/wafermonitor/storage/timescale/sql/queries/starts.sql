-- Of each want (site or null $1, job $2, time $3) the newest $4 runs of that job that start then or later, by its place. Each want reads no
-- more than it is given, however many sites share the job: the index tells them apart. The twin of `pasts.starts`.
WITH wanted AS MATERIALIZED (
  SELECT w.place, w.job, w.from_ns, wafer.time_of(w.from_ns) AS from_time, s.site_id, w.site IS NULL AS anywhere
  FROM unnest($1::text[], $2::text[], $3::bigint[]) WITH ORDINALITY w (site, job, from_ns, place)
  LEFT JOIN wafer_data.site s ON s.name = w.site
  WHERE w.site IS NULL OR s.site_id IS NOT NULL
), asked AS MATERIALIZED (
  SELECT job, min(from_ns) AS from_ns FROM wanted GROUP BY job
), odd AS MATERIALIZED (
  SELECT
    -- include start_answer
  FROM asked a
  JOIN wafer_data.run r ON r.job = a.job AND r.start_time = '-infinity' AND r.received_unix_ns >= a.from_ns
  UNION ALL
  SELECT
    -- include start_answer
  FROM asked a
  JOIN wafer_data.run_open r ON r.job = a.job AND coalesce(r.start_unix_ns, r.received_unix_ns) >= a.from_ns
  WHERE r.end_rank = 0 AND NOT EXISTS (
    SELECT FROM wafer_data.run e
    WHERE (e.trace_id, e.span_id, e.site_id, e.start_time) = (r.trace_id, r.span_id, r.site_id, r.start_time)
  )
)
SELECT n.*, s.name AS site
FROM (
  SELECT f.*, row_number() OVER (PARTITION BY f.place ORDER BY f.began_ns DESC, f.trace_id DESC) AS number
  FROM (
    SELECT w.place, e.*
    FROM wanted w
    CROSS JOIN LATERAL (
      SELECT
        -- include start_answer
      FROM wafer_data.run r
      WHERE r.job = w.job AND r.start_time >= w.from_time AND r.start_unix_ns >= w.from_ns AND r.site_id = w.site_id
      ORDER BY r.start_time DESC, r.start_unix_ns DESC
      LIMIT $4
    ) e
    UNION ALL
    SELECT w.place, e.*
    FROM wanted w
    CROSS JOIN LATERAL (
      SELECT
        -- include start_answer
      FROM wafer_data.run r
      WHERE r.job = w.job AND r.start_time >= w.from_time AND r.start_unix_ns >= w.from_ns
      ORDER BY r.start_time DESC, r.start_unix_ns DESC
      LIMIT $4
    ) e
    WHERE w.anywhere
    UNION ALL
    SELECT w.place, o.*
    FROM wanted w
    JOIN odd o ON o.job = w.job AND o.began_ns >= w.from_ns AND (w.anywhere OR o.site_id = w.site_id)
  ) f
) n
JOIN wafer_data.site s ON s.site_id = n.site_id
WHERE n.number <= $4
ORDER BY n.place, n.began_ns, n.trace_id, int8send(n.span_id), s.name
