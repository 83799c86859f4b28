-- Rows in which a rollup table and a direct query over the runs differ; {table} and {unit} are filled in.
WITH measured AS (
  SELECT
    CASE '{unit}' WHEN 'hour' THEN hour ELSE date_trunc('{unit}', hour, wafer.time_zone()) END AS bucket,
    d.dimension::smallint, site_id, coalesce(job, '') AS job, d.value, result, parent_span_id,
    CASE WHEN duration_ns >= 0 THEN duration_ns END AS duration_ns,
    CASE WHEN cpu_s BETWEEN 0 AND 1e9 THEN round(cpu_s * 1e9)::bigint END AS cpu_ns,
    memory_bytes,
    CASE WHEN nominal_unix_ns > 0 AND start_unix_ns > 0 THEN start_unix_ns - nominal_unix_ns END AS queue_ns
  FROM wafer_data.run
  CROSS JOIN LATERAL (SELECT date_trunc('hour', start_time, wafer.time_zone()) AS hour) h
  CROSS JOIN LATERAL (VALUES (0, ''), (1, service), (2, equipment), (3, recipe), (4, product)) d (dimension, value)
  WHERE d.value IS NOT NULL AND start_unix_ns IS NOT NULL
), direct AS (
  SELECT
    bucket, dimension, site_id, job, value, count(*) AS ended,
    count(*) FILTER (WHERE result = 'success') AS success, count(*) FILTER (WHERE result = 'failure') AS failure,
    count(*) FILTER (WHERE result = 'error') AS error, count(*) FILTER (WHERE result = 'timeout') AS timeout,
    count(*) FILTER (WHERE result = 'cancellation') AS cancellation, count(*) FILTER (WHERE result = 'skip') AS skip,
    count(parent_span_id) AS subjobs,
    count(duration_ns) AS duration_count, sum(duration_ns) AS duration_ns, min(duration_ns) AS duration_min_ns, max(duration_ns) AS duration_max_ns,
    count(cpu_ns) AS cpu_count, sum(cpu_ns) AS cpu_ns, min(cpu_ns) AS cpu_min_ns, max(cpu_ns) AS cpu_max_ns,
    count(memory_bytes) AS memory_count, sum(memory_bytes) AS memory_bytes, min(memory_bytes) AS memory_min_bytes, max(memory_bytes) AS memory_max_bytes,
    count(queue_ns) AS queue_count, sum(queue_ns) AS queue_ns, min(queue_ns) AS queue_min_ns, max(queue_ns) AS queue_max_ns,
    coalesce((
      SELECT array_agg((k << 40) + n ORDER BY k)
      FROM (
        SELECT CASE WHEN ns <= 1 THEN 0 ELSE ceil(18 * ln(ns::float8) / ln(2::float8)) END::bigint AS k, count(*) AS n
        FROM unnest(array_agg(duration_ns)) ns WHERE ns IS NOT NULL GROUP BY 1
      ) h
    ), '{{}}') AS durations
  FROM measured GROUP BY 1, 2, 3, 4, 5
), rolled AS (
  SELECT
    bucket, dimension, site_id, job, value, ended, success, failure, error, timeout, cancellation, skip, subjobs, duration_count, duration_ns,
    duration_min_ns, duration_max_ns, cpu_count, cpu_ns, cpu_min_ns, cpu_max_ns, memory_count, memory_bytes, memory_min_bytes, memory_max_bytes,
    queue_count, queue_ns, queue_min_ns, queue_max_ns, durations
  FROM wafer_data.{table}
)
SELECT 'direct' AS who, d.* FROM (TABLE direct EXCEPT TABLE rolled) d
UNION ALL SELECT 'rolled', r.* FROM (TABLE rolled EXCEPT TABLE direct) r
