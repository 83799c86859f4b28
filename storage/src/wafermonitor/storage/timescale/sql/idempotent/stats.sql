-- job_hourly_stats … job_monthly_stats and their breakdowns: what is rolled up, what is not yet, and the runs still open, as one.
--
-- Exact however far the rollups are behind, but for two things: a least or greatest value that was taken back since the last pass still
-- stands; and hours that are still to be built (before the first pass of all, in a store from elsewhere, after another time zone) are missing.

CREATE OR REPLACE FUNCTION wafer_data.make_stats(rollup text, unit text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
  kind record;
BEGIN
  EXECUTE format($view$
    CREATE OR REPLACE VIEW wafer_data.%1$I AS
    SELECT
      bucket, dimension, site_id, job, value,
      sum(open)::bigint AS open, sum(ended)::bigint AS ended, sum(success)::bigint AS success, sum(failure)::bigint AS failure,
      sum(error)::bigint AS error, sum(timeout)::bigint AS timeout, sum(cancellation)::bigint AS cancellation, sum(skip)::bigint AS skip,
      sum(subjobs)::bigint AS subjobs,
      sum(duration_count)::bigint AS duration_count, sum(duration_ns) AS duration_ns,
      min(duration_min_ns) AS duration_min_ns, max(duration_max_ns) AS duration_max_ns,
      sum(cpu_count)::bigint AS cpu_count, sum(cpu_ns) AS cpu_ns, min(cpu_min_ns) AS cpu_min_ns, max(cpu_max_ns) AS cpu_max_ns,
      sum(memory_count)::bigint AS memory_count, sum(memory_bytes) AS memory_bytes,
      min(memory_min_bytes) AS memory_min_bytes, max(memory_max_bytes) AS memory_max_bytes,
      sum(queue_count)::bigint AS queue_count, sum(queue_ns) AS queue_ns, min(queue_min_ns) AS queue_min_ns, max(queue_max_ns) AS queue_max_ns,
      wafer.sum_durations(durations) AS durations
    FROM (
      SELECT
        bucket, dimension, site_id, job, value, 0::bigint AS open, ended, success, failure, error, timeout, cancellation, skip, subjobs,
        duration_count, duration_ns, duration_min_ns, duration_max_ns, cpu_count, cpu_ns, cpu_min_ns, cpu_max_ns,
        memory_count, memory_bytes, memory_min_bytes, memory_max_bytes, queue_count, queue_ns, queue_min_ns, queue_max_ns, durations
      FROM wafer_data.%2$I
      UNION ALL
      SELECT
        %4$s, d.dimension, c.site_id, c.job, d.value, 0, c.sign,
        CASE c.result WHEN 'success' THEN c.sign ELSE 0 END, CASE c.result WHEN 'failure' THEN c.sign ELSE 0 END,
        CASE c.result WHEN 'error' THEN c.sign ELSE 0 END, CASE c.result WHEN 'timeout' THEN c.sign ELSE 0 END,
        CASE c.result WHEN 'cancellation' THEN c.sign ELSE 0 END, CASE c.result WHEN 'skip' THEN c.sign ELSE 0 END,
        CASE WHEN c.subjob THEN c.sign ELSE 0 END,
        CASE WHEN c.duration_ns IS NULL THEN 0 ELSE c.sign END, c.sign * c.duration_ns::numeric,
        CASE c.sign WHEN 1 THEN c.duration_ns END, CASE c.sign WHEN 1 THEN c.duration_ns END,
        CASE WHEN c.cpu_ns IS NULL THEN 0 ELSE c.sign END, c.sign * c.cpu_ns::numeric,
        CASE c.sign WHEN 1 THEN c.cpu_ns END, CASE c.sign WHEN 1 THEN c.cpu_ns END,
        CASE WHEN c.memory_bytes IS NULL THEN 0 ELSE c.sign END, c.sign * c.memory_bytes::numeric,
        CASE c.sign WHEN 1 THEN c.memory_bytes END, CASE c.sign WHEN 1 THEN c.memory_bytes END,
        CASE WHEN c.queue_ns IS NULL THEN 0 ELSE c.sign END, c.sign * c.queue_ns::numeric,
        CASE c.sign WHEN 1 THEN c.queue_ns END, CASE c.sign WHEN 1 THEN c.queue_ns END,
        CASE WHEN c.entry IS NULL THEN '{}' ELSE ARRAY[wafer_data.histogram_entry(c.entry, c.sign)] END
      FROM wafer_data.unrolled_runs() c
      CROSS JOIN LATERAL (
        VALUES (0::smallint, ''), (1::smallint, c.service), (2::smallint, c.equipment), (3::smallint, c.recipe), (4::smallint, c.product)
      ) d (dimension, value)
      WHERE d.value IS NOT NULL
      UNION ALL
      SELECT
        date_trunc(%3$L, o.start_time, (SELECT wafer.time_zone())), d.dimension, o.site_id, coalesce(o.job, ''), d.value, 1,
        0, 0, 0, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL, 0, NULL, NULL, NULL, 0, NULL, NULL, NULL, 0, NULL, NULL, NULL, '{}'
      FROM wafer_data.run_open o
      CROSS JOIN LATERAL (
        VALUES (0::smallint, ''), (1::smallint, o.service), (2::smallint, o.equipment), (3::smallint, o.recipe), (4::smallint, o.product)
      ) d (dimension, value)
      WHERE o.end_rank = 0 AND o.start_time > '-infinity' AND d.value IS NOT NULL
    ) parts
    GROUP BY bucket, dimension, site_id, job, value
    HAVING sum(ended) > 0 OR sum(open) > 0
  $view$, rollup || '_now', rollup, unit, CASE unit WHEN 'hour' THEN 'c.bucket' ELSE format('date_trunc(%L, c.bucket, (SELECT wafer.time_zone()))', unit) END);

  FOR kind IN
    SELECT * FROM (VALUES
      (rollup || '_stats', '', '= 0'),
      (rollup || '_breakdown', 'CASE r.dimension WHEN 1 THEN ''app'' WHEN 2 THEN ''equipment'' WHEN 3 THEN ''recipe'' ELSE ''product'' END AS dimension, r.value,', '> 0')
    ) k (name, columns, dimensions)
  LOOP
    EXECUTE format($view$
      CREATE OR REPLACE VIEW wafer.%1$I AS
      SELECT
        r.bucket, s.name AS site_id, r.job, %3$s
        r.ended + r.open AS started, r.open, r.ended, r.success, r.failure, r.error, r.timeout, r.cancellation, r.skip,
        r.ended - r.success - r.failure - r.error - r.timeout - r.cancellation - r.skip AS other,
        r.failure + r.error + r.timeout AS bad,
        r.success::double precision / nullif(r.success + r.failure + r.error + r.timeout, 0) AS success_rate,
        r.subjobs,
        (r.duration_ns / 1e9)::double precision AS duration_sum_s,
        (r.duration_ns / nullif(r.duration_count, 0) / 1e9)::double precision AS duration_mean_s,
        wafer.seconds(r.duration_min_ns) AS duration_min_s,
        wafer_data.percentile_of(r.durations, 0.5, r.duration_count) AS duration_p50_s,
        wafer_data.percentile_of(r.durations, 0.95, r.duration_count) AS duration_p95_s,
        wafer_data.percentile_of(r.durations, 0.99, r.duration_count) AS duration_p99_s,
        wafer.seconds(r.duration_max_ns) AS duration_max_s,
        (r.cpu_ns / 1e9)::double precision AS cpu_sum_s,
        (r.cpu_ns / nullif(r.cpu_count, 0) / 1e9)::double precision AS cpu_mean_s,
        wafer.seconds(r.cpu_min_ns) AS cpu_min_s, wafer.seconds(r.cpu_max_ns) AS cpu_max_s,
        (r.memory_bytes / nullif(r.memory_count, 0))::double precision AS memory_mean_bytes,
        r.memory_min_bytes, r.memory_max_bytes,
        (r.queue_ns / nullif(r.queue_count, 0) / 1e9)::double precision AS queue_delay_mean_s,
        wafer.seconds(r.queue_min_ns) AS queue_delay_min_s, wafer.seconds(r.queue_max_ns) AS queue_delay_max_s,
        r.durations
      FROM wafer_data.%2$I r JOIN wafer_data.site s ON s.site_id = r.site_id
      WHERE r.dimension %4$s
    $view$, kind.name, rollup || '_now', kind.columns, kind.dimensions);
  END LOOP;
END
$$;
SELECT wafer_data.make_stats('job_hourly', 'hour');
SELECT wafer_data.make_stats('job_daily', 'day');
SELECT wafer_data.make_stats('job_weekly', 'week');
SELECT wafer_data.make_stats('job_monthly', 'month');
