-- A day's growth, as of $1: of tables by day the median of their last seven whole days that hold rows, or before there is one what
-- today took so far; of runs what the newest month that has some holds, for each of its days that is over; of others (rollups,
-- dictionaries) what they are, for each day since the oldest run or day. Whether a part holds rows is seen by its size, because it
-- may never have been analyzed. The days of chunks stand in their constraints, where native partitions have bounds.
WITH given AS (
  SELECT $1::timestamptz AS now
), part AS (
  SELECT p.table_name, p.bytes, pg_relation_size(p.oid) > 0 AS has_rows, m[1]::timestamptz AS lower_time, m[2]::timestamptz AS upper_time
  FROM wafer_data.part p LEFT JOIN LATERAL (
    SELECT regexp_match(p.bound, 'FROM \(''([^'']+)''\) TO \(''([^'']+)''\)') AS m WHERE p.bound IS NOT NULL
    UNION ALL
    SELECT regexp_match(pg_get_constraintdef(k.oid), '>= ''([^'']+)''.* < ''([^'']+)''') FROM pg_constraint k
    WHERE p.is_part AND p.bound IS NULL AND k.conrelid = p.oid AND k.contype = 'c' AND pg_get_constraintdef(k.oid) ~ '>= ''[^'']+''.* < '''
  ) b ON true
), whole_day AS (
  SELECT table_name, bytes, row_number() OVER (PARTITION BY table_name ORDER BY lower_time DESC) AS nth
  FROM part CROSS JOIN given WHERE upper_time - lower_time = interval '1 day' AND upper_time <= now AND has_rows
), by_day AS (
  SELECT table_name, percentile_cont(0.5) WITHIN GROUP (ORDER BY bytes) AS daily_bytes FROM whole_day WHERE nth <= 7 GROUP BY table_name
), today AS (
  SELECT table_name, bytes / greatest(extract(epoch FROM now - lower_time)::double precision / 86400, 1.0 / 24) AS daily_bytes
  FROM part CROSS JOIN given WHERE upper_time - lower_time = interval '1 day' AND now >= lower_time AND now < upper_time AND has_rows
), month AS (
  SELECT DISTINCT ON (table_name) table_name,
    bytes / greatest(extract(epoch FROM least(upper_time, now) - lower_time)::double precision / 86400, 1) AS daily_bytes
  FROM part CROSS JOIN given WHERE upper_time - lower_time > interval '27 days' AND lower_time <= now AND has_rows
  ORDER BY table_name, lower_time DESC
), age AS (
  -- A month of runs may hold none of its first days.
  SELECT greatest(extract(epoch FROM g.now - least(
    o.day, (SELECT min(r.start_time) FROM wafer_data.run r WHERE r.start_time >= o.month)
  ))::double precision / 86400, 1) AS days
  FROM given g CROSS JOIN (
    SELECT
      min(lower_time) FILTER (WHERE upper_time - lower_time = interval '1 day') AS day,
      min(lower_time) FILTER (WHERE upper_time - lower_time > interval '27 days') AS month
    FROM part WHERE has_rows
  ) o
)
SELECT
  t.table_name, sum(t.bytes)::bigint AS bytes,
  coalesce(
    max(d.daily_bytes), max(y.daily_bytes), max(m.daily_bytes),
    CASE WHEN bool_or(t.lower_time IS NOT NULL) OR sum(t.bytes) < 1000000 THEN 0 ELSE sum(t.bytes) / (SELECT coalesce(max(days), 1) FROM age) END
  )::double precision AS daily_bytes
FROM part t LEFT JOIN by_day d USING (table_name) LEFT JOIN today y USING (table_name) LEFT JOIN month m USING (table_name)
GROUP BY t.table_name
ORDER BY bytes DESC, t.table_name
