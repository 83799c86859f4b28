-- A day's growth: of tables by day the median of their last seven whole days that hold rows; of runs what the newest month that has
-- some holds, for each of its days that is over; of others (rollups, dictionaries) what they are, for each day since the oldest run or day.
WITH part AS (
  SELECT p.table_name, p.bytes, p.estimated_rows, m[1]::timestamptz AS lower_time, m[2]::timestamptz AS upper_time
  FROM wafer_data.part p LEFT JOIN LATERAL regexp_match(p.bound, 'FROM \(''([^'']+)''\) TO \(''([^'']+)''\)') m ON true
), whole_day AS (
  SELECT table_name, bytes, row_number() OVER (PARTITION BY table_name ORDER BY lower_time DESC) AS nth
  FROM part WHERE upper_time - lower_time = interval '1 day' AND upper_time <= now() AND estimated_rows > 0
), by_day AS (
  SELECT table_name, percentile_cont(0.5) WITHIN GROUP (ORDER BY bytes) AS daily_bytes FROM whole_day WHERE nth <= 7 GROUP BY table_name
), month AS (
  SELECT DISTINCT ON (table_name) table_name,
    bytes / greatest(extract(epoch FROM least(upper_time, now()) - lower_time) / 86400, 1) AS daily_bytes
  FROM part WHERE upper_time - lower_time > interval '27 days' AND lower_time <= now() AND estimated_rows > 0
  ORDER BY table_name, lower_time DESC
), age AS (
  SELECT greatest(extract(epoch FROM now() - min(lower_time)) / 86400, 1) AS days FROM part WHERE estimated_rows > 0
)
SELECT
  t.table_name, sum(t.bytes)::bigint AS bytes,
  coalesce(
    max(d.daily_bytes), max(m.daily_bytes)::double precision,
    CASE WHEN bool_or(t.lower_time IS NOT NULL) OR sum(t.bytes) < 1000000 THEN 0 ELSE sum(t.bytes) / (SELECT coalesce(max(days), 1) FROM age) END::double precision
  ) AS daily_bytes
FROM part t LEFT JOIN by_day d USING (table_name) LEFT JOIN month m USING (table_name)
GROUP BY t.table_name
ORDER BY bytes DESC, t.table_name
