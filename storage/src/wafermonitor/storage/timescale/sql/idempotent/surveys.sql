-- Functions that answer what people ask of jobs. They read rollups (how exact these are: stats.sql) wherever these suffice.

-- Null when there is no such site.
CREATE OR REPLACE FUNCTION wafer_data.site_number(site text) RETURNS smallint
LANGUAGE sql STABLE PARALLEL SAFE
RETURN (SELECT s.site_id FROM wafer_data.site s WHERE s.name = site);

-- Hourly rollups of a stretch of time, of one job or all, at one site or all. Hours that the stretch cuts are counted whole. No sub-select in it:
-- then the planner takes the conditions down to the tables.
CREATE OR REPLACE FUNCTION wafer_data.hours_of(job_name text, from_time timestamptz, until_time timestamptz, site text)
RETURNS SETOF wafer_data.job_hourly_now
LANGUAGE sql STABLE AS $$
  SELECT r.* FROM wafer_data.job_hourly_now r
  WHERE r.dimension = 0 AND r.bucket >= date_trunc('hour', from_time, wafer.time_zone()) AND r.bucket < until_time
    AND (job_name IS NULL OR r.job = job_name)
    AND (site IS NULL OR r.site_id = wafer_data.site_number(site))
$$;

-- One job between two times beside the stretch of the same length before: how many, how well, how long, how much.
CREATE OR REPLACE FUNCTION wafer.calculate_job_metrics(
  job_name text, from_time timestamptz DEFAULT now() - interval '24 hours', until_time timestamptz DEFAULT now(), site text DEFAULT NULL
) RETURNS TABLE (
  job text, from_bucket timestamptz, until_bucket timestamptz, started bigint, open bigint, ended bigint, success bigint, bad bigint,
  success_rate double precision, runs_per_hour double precision, duration_mean_s double precision, duration_p50_s double precision,
  duration_p95_s double precision, duration_p99_s double precision, duration_max_s double precision, cpu_mean_s double precision,
  memory_mean_bytes double precision, memory_max_bytes bigint, queue_delay_mean_s double precision,
  ended_before bigint, success_rate_before double precision, duration_p50_before_s double precision
)
LANGUAGE sql STABLE AS $$
  SELECT
    job_name, date_trunc('hour', from_time, wafer.time_zone()), until_time,
    coalesce(sum(n.ended + n.open), 0)::bigint, coalesce(sum(n.open), 0)::bigint, coalesce(sum(n.ended), 0)::bigint, coalesce(sum(n.success), 0)::bigint,
    coalesce(sum(n.failure + n.error + n.timeout), 0)::bigint,
    sum(n.success)::double precision / nullif(sum(n.success + n.failure + n.error + n.timeout), 0)::double precision,
    coalesce(sum(n.ended + n.open), 0)::double precision / nullif(extract(epoch FROM until_time - from_time) / 3600, 0)::double precision,
    (sum(n.duration_ns) / nullif(sum(n.duration_count), 0) / 1e9)::double precision,
    wafer.percentile(wafer.sum_durations(n.durations), 0.5), wafer.percentile(wafer.sum_durations(n.durations), 0.95),
    wafer.percentile(wafer.sum_durations(n.durations), 0.99), wafer.seconds(max(n.duration_max_ns)),
    (sum(n.cpu_ns) / nullif(sum(n.cpu_count), 0) / 1e9)::double precision,
    (sum(n.memory_bytes) / nullif(sum(n.memory_count), 0))::double precision, max(n.memory_max_bytes),
    (sum(n.queue_ns) / nullif(sum(n.queue_count), 0) / 1e9)::double precision,
    max(b.ended), max(b.success_rate), max(b.p50)
  FROM (
    SELECT
      coalesce(sum(o.ended), 0)::bigint AS ended,
      sum(o.success)::double precision / nullif(sum(o.success + o.failure + o.error + o.timeout), 0)::double precision AS success_rate,
      wafer.percentile(wafer.sum_durations(o.durations), 0.5) AS p50
    FROM wafer_data.hours_of(
      job_name, from_time - (until_time - from_time), date_trunc('hour', from_time, wafer.time_zone()), site
    ) o
  ) b
  LEFT JOIN wafer_data.hours_of(job_name, from_time, until_time, site) n ON true
$$;

-- Each job of each site, over the last `since`.
CREATE OR REPLACE FUNCTION wafer_data.job_stats(job_name text, since interval, site text)
RETURNS TABLE (
  site_id text, job text, started bigint, open bigint, ended bigint, success bigint, bad bigint, cancellation bigint, skip bigint,
  success_rate double precision, subjobs bigint, duration_mean_s double precision, duration_p50_s double precision,
  duration_p95_s double precision, duration_max_s double precision, duration_sum_s double precision, cpu_sum_s double precision,
  memory_max_bytes bigint, queue_delay_mean_s double precision
)
LANGUAGE sql STABLE AS $$
  SELECT
    s.name, r.job, sum(r.ended + r.open)::bigint, sum(r.open)::bigint, sum(r.ended)::bigint, sum(r.success)::bigint,
    sum(r.failure + r.error + r.timeout)::bigint, sum(r.cancellation)::bigint, sum(r.skip)::bigint,
    sum(r.success)::double precision / nullif(sum(r.success + r.failure + r.error + r.timeout), 0)::double precision,
    sum(r.subjobs)::bigint, (sum(r.duration_ns) / nullif(sum(r.duration_count), 0) / 1e9)::double precision,
    wafer.percentile(wafer.sum_durations(r.durations), 0.5), wafer.percentile(wafer.sum_durations(r.durations), 0.95),
    wafer.seconds(max(r.duration_max_ns)), (sum(r.duration_ns) / 1e9)::double precision, (sum(r.cpu_ns) / 1e9)::double precision,
    max(r.memory_max_bytes), (sum(r.queue_ns) / nullif(sum(r.queue_count), 0) / 1e9)::double precision
  FROM wafer_data.hours_of(job_name, now() - since, now() + interval '1 hour', site) r
  JOIN wafer_data.site s ON s.site_id = r.site_id
  GROUP BY s.name, r.job
$$;

-- The same: the busiest first.
CREATE OR REPLACE FUNCTION wafer.get_job_stats(job_name text DEFAULT NULL, since interval DEFAULT '24 hours', site text DEFAULT NULL)
RETURNS TABLE (
  site_id text, job text, started bigint, open bigint, ended bigint, success bigint, bad bigint, cancellation bigint, skip bigint,
  success_rate double precision, subjobs bigint, duration_mean_s double precision, duration_p50_s double precision,
  duration_p95_s double precision, duration_max_s double precision, duration_sum_s double precision, cpu_sum_s double precision,
  memory_max_bytes bigint, queue_delay_mean_s double precision
)
LANGUAGE sql STABLE AS $$
  SELECT * FROM wafer_data.job_stats(job_name, since, site) j ORDER BY j.started DESC, j.site_id, j.job LIMIT 1000
$$;

-- The jobs whose slow runs (95th percentile) take longest, over the last `since`.
CREATE OR REPLACE FUNCTION wafer.get_slowest_jobs(since interval DEFAULT '24 hours', max_rows integer DEFAULT 20, site text DEFAULT NULL)
RETURNS TABLE (
  site_id text, job text, ended bigint, duration_p50_s double precision, duration_p95_s double precision, duration_max_s double precision,
  duration_sum_s double precision
)
LANGUAGE sql STABLE AS $$
  SELECT j.site_id, j.job, j.ended, j.duration_p50_s, j.duration_p95_s, j.duration_max_s, j.duration_sum_s
  FROM wafer_data.job_stats(NULL, since, site) j
  WHERE j.duration_p95_s IS NOT NULL
  ORDER BY j.duration_p95_s DESC, j.site_id, j.job
  LIMIT least(max_rows, 1000)
$$;

-- Why runs fail, over the last `since`: of the newest 100,000 bad runs, each job with each kind of error, the most frequent first.
CREATE OR REPLACE FUNCTION wafer.get_failure_analysis(
  since interval DEFAULT '7 days', max_rows integer DEFAULT 50, job_name text DEFAULT NULL, site text DEFAULT NULL
) RETURNS TABLE (
  site_id text, job text, result text, error_type text, failures bigint, share double precision, first_time timestamptz, last_time timestamptz,
  top_equipment text, top_equipment_failures bigint, equipments bigint, lots bigint, last_trace_id text, last_span_id text
)
LANGUAGE sql STABLE AS $$
  WITH bad AS MATERIALIZED (
    SELECT r.site_id, coalesce(r.job, '') AS job, r.result, coalesce(r.error_type, '') AS error_type, r.start_time, r.equipment, r.lot_ids, r.trace_id, r.span_id
    FROM wafer_data.run r
    WHERE r.result IN ('failure', 'error', 'timeout') AND r.start_time > now() - since
      AND (job_name IS NULL OR r.job = job_name) AND (site IS NULL OR r.site_id = (SELECT s.site_id FROM wafer_data.site s WHERE s.name = site))
    ORDER BY r.start_time DESC LIMIT 100000
  ), kind AS (
    SELECT
      b.site_id, b.job, b.result, b.error_type, count(*) AS failures, min(b.start_time) AS first_time, max(b.start_time) AS last_time,
      count(DISTINCT b.equipment) AS equipments, mode() WITHIN GROUP (ORDER BY b.equipment) AS top_equipment
    FROM bad b GROUP BY b.site_id, b.job, b.result, b.error_type
    ORDER BY count(*) DESC, max(b.start_time) DESC
    LIMIT least(max_rows, 1000)
  )
  SELECT
    s.name, k.job, k.result, nullif(k.error_type, ''), k.failures, k.failures::double precision / (SELECT count(*) FROM bad),
    k.first_time, k.last_time, k.top_equipment,
    (SELECT count(*) FROM bad b WHERE (b.site_id, b.job, b.result, b.error_type, b.equipment) = (k.site_id, k.job, k.result, k.error_type, k.top_equipment)),
    k.equipments,
    (SELECT count(DISTINCT lot) FROM bad b, unnest(b.lot_ids) lot WHERE (b.site_id, b.job, b.result, b.error_type) = (k.site_id, k.job, k.result, k.error_type)),
    replace(last.trace_id::text, '-', ''), encode(int8send(last.span_id), 'hex')
  FROM kind k
  JOIN wafer_data.site s ON s.site_id = k.site_id
  CROSS JOIN LATERAL (
    SELECT b.trace_id, b.span_id FROM bad b WHERE (b.site_id, b.job, b.result, b.error_type) = (k.site_id, k.job, k.result, k.error_type)
    ORDER BY b.start_time DESC LIMIT 1
  ) last
  ORDER BY k.failures DESC, k.last_time DESC, s.name, k.job
$$;

-- Hours within the last `since` (7 days at most) in which a job did not do as it does: how many runs, which share of them bad, how long they
-- took (mean).
--
-- Compared with the same hour of the week, and the hours beside it, over `baseline` before (91 days at most), by median and median
-- absolute deviation; both sides count, so a job that fell silent is seen like one that went wild. An hour without runs counts as 0 runs
-- from the first hour on in which the job ran. At least eight hours to compare with; deviations are never taken for less than 5 % of the
-- median, one run, two percent of failures or ten milliseconds. The hour that is still going on is left out.
--
-- Only the hours that are asked or compared are read, and empty ones are counted, not made: so it costs what these hours hold.
CREATE OR REPLACE FUNCTION wafer_data.hour_of_week(bucket timestamptz, zone text) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE -- in local time, so that a night stays a night when clocks change
RETURN extract(dow FROM bucket AT TIME ZONE zone)::integer * 24 + extract(hour FROM bucket AT TIME ZONE zone)::integer;

CREATE OR REPLACE FUNCTION wafer.detect_anomalies(
  since interval DEFAULT '24 hours', baseline interval DEFAULT '56 days', threshold double precision DEFAULT 3.5,
  job_name text DEFAULT NULL, site text DEFAULT NULL
) RETURNS TABLE (
  bucket timestamptz, site_id text, job text, metric text, value double precision, expected double precision, deviation double precision,
  score double precision, direction text, compared bigint
)
LANGUAGE plpgsql STABLE
SET work_mem = '32MB'
SET plan_cache_mode = force_custom_plan -- the hours and the job are known, and decide
SET enable_nestloop = off -- how many rows these have cannot be estimated: hash them
SET enable_mergejoin = off
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
  zone constant text := wafer.time_zone();
  this_hour constant timestamptz := date_trunc('hour', now(), zone);
  from_hour constant timestamptz := date_trunc('hour', now() - least(since, interval '7 days'), zone);
  earliest constant timestamptz := date_trunc('hour', from_hour - least(baseline, interval '91 days'), zone);
  asked integer[]; -- hours of the week
  wanted timestamptz[];
BEGIN
  SELECT array_agg(DISTINCT wafer_data.hour_of_week(h, zone)) INTO asked
  FROM generate_series(from_hour, this_hour - interval '1 hour', interval '1 hour') h;
  SELECT array_agg(DISTINCT h.bucket) INTO wanted
  FROM generate_series(earliest, this_hour - interval '1 hour', interval '1 hour') g (hour)
  CROSS JOIN LATERAL (SELECT date_trunc('hour', g.hour, zone) AS bucket) h
  CROSS JOIN LATERAL (SELECT wafer_data.hour_of_week(h.bucket, zone) AS hour_of_week) w
  WHERE h.bucket >= from_hour OR ARRAY[(w.hour_of_week + 167) % 168, w.hour_of_week, (w.hour_of_week + 1) % 168] && asked;
  RETURN QUERY
  WITH calendar AS MATERIALIZED (
    SELECT w.bucket, w.bucket >= from_hour AS is_asked, wafer_data.hour_of_week(w.bucket, zone) AS hour_of_week FROM unnest(wanted) w (bucket)
  ), comparable AS MATERIALIZED (
    -- For each hour of the week that is asked, the earlier hours of it and beside it.
    SELECT a.hour_of_week, array_agg(c.bucket ORDER BY c.bucket) AS buckets
    FROM unnest(asked) a (hour_of_week)
    JOIN calendar c ON NOT c.is_asked AND c.hour_of_week IN ((a.hour_of_week + 167) % 168, a.hour_of_week, (a.hour_of_week + 1) % 168)
    GROUP BY a.hour_of_week
  ), known AS MATERIALIZED (
    SELECT
      h.site_id, h.job, h.bucket, (h.ended + h.open)::double precision AS runs,
      (h.failure + h.error + h.timeout)::double precision / nullif(h.ended, 0)::double precision AS bad_share,
      (h.duration_ns / nullif(h.duration_count, 0) / 1e9)::double precision AS duration_mean_s
    FROM wafer_data.job_hourly_now h
    WHERE h.dimension = 0 AND h.bucket = ANY (wanted) AND h.job <> '' AND (job_name IS NULL OR h.job = job_name)
      AND (site IS NULL OR h.site_id = wafer_data.site_number(site))
  ), job AS MATERIALIZED (
    SELECT k.site_id, k.job, least(k.first_hour, f.bucket) AS first_hour
    FROM (SELECT site_id, job, min(bucket) AS first_hour FROM known GROUP BY site_id, job) k
    LEFT JOIN LATERAL (
      SELECT r.bucket FROM wafer_data.job_hourly r
      WHERE r.job = k.job AND r.dimension = 0 AND r.value = '' AND r.site_id = k.site_id AND r.bucket >= earliest
      ORDER BY r.bucket LIMIT 1
    ) f ON true
  ), past AS MATERIALIZED (
    SELECT
      k.site_id, k.job, a.hour_of_week, array_agg(k.runs ORDER BY k.runs) AS runs,
      array_agg(k.bad_share ORDER BY k.bad_share) FILTER (WHERE k.bad_share IS NOT NULL) AS bad_share,
      array_agg(k.duration_mean_s ORDER BY k.duration_mean_s) FILTER (WHERE k.duration_mean_s IS NOT NULL) AS duration_mean_s
    FROM known k
    JOIN calendar c ON c.bucket = k.bucket AND NOT c.is_asked
    CROSS JOIN (VALUES (167), (0), (1)) beside (hours)
    JOIN unnest(asked) a (hour_of_week) ON a.hour_of_week = (c.hour_of_week + beside.hours) % 168
    GROUP BY k.site_id, k.job, a.hour_of_week
  ), compared AS (
    SELECT j.site_id, j.job, c.bucket, m.metric, m.value, m.others, m.least_deviation, cardinality(m.others) AS n
    FROM job j
    JOIN calendar c ON c.is_asked AND c.bucket >= j.first_hour
    JOIN comparable w ON w.hour_of_week = c.hour_of_week
    LEFT JOIN past p ON (p.site_id, p.job, p.hour_of_week) = (j.site_id, j.job, c.hour_of_week)
    LEFT JOIN known k ON (k.site_id, k.job, k.bucket) = (j.site_id, j.job, c.bucket)
    -- Of the earlier hours those since the first one, without those that had runs.
    CROSS JOIN LATERAL (
      SELECT cardinality(w.buckets) - width_bucket(j.first_hour - interval '1 microsecond', w.buckets) - coalesce(cardinality(p.runs), 0) AS empty
    ) n
    CROSS JOIN LATERAL (
      VALUES
        ('runs', coalesce(k.runs, 0), array_fill(0::double precision, ARRAY[n.empty]) || coalesce(p.runs, '{}'), 1::double precision),
        ('bad_share', k.bad_share, p.bad_share, 0.02),
        ('duration_mean_s', k.duration_mean_s, p.duration_mean_s, 0.01)
    ) m (metric, value, others, least_deviation)
    WHERE m.value IS NOT NULL AND cardinality(m.others) >= 8
  ), far AS (
    -- Fewer than half of the values lie strictly between the two around the quartiles, so the deviation is no less than the nearer one's
    -- distance: most hours need no more than this.
    SELECT c.*, q.median
    FROM compared c
    CROSS JOIN LATERAL (
      SELECT
        (c.others[(c.n + 1) / 2] + c.others[c.n / 2 + 1]) / 2 AS median, c.others[c.n / 4 + 1] AS lower, c.others[c.n - c.n / 4] AS upper
    ) q
    WHERE abs(c.value - q.median)
      > threshold / 0.6745 * greatest(0.05 * abs(q.median), c.least_deviation, least(q.median - q.lower, q.upper - q.median))
  ), judged AS (
    SELECT f.*, greatest(d.deviation, 0.05 * abs(f.median), f.least_deviation) / 0.6745 AS spread
    FROM far f
    CROSS JOIN LATERAL (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY abs(o - f.median)) AS deviation FROM unnest(f.others) o) d
  )
  SELECT
    j.bucket, s.name, j.job, j.metric, j.value, j.median, j.spread, (j.value - j.median) / j.spread,
    CASE WHEN j.value > j.median THEN 'high' ELSE 'low' END, cardinality(j.others)::bigint
  FROM judged j JOIN wafer_data.site s ON s.site_id = j.site_id
  WHERE abs(j.value - j.median) > threshold * j.spread
  ORDER BY j.bucket DESC, abs(j.value - j.median) / j.spread DESC
  LIMIT 1000;
END
$$;

-- What should be looked at now, the worst first: runs that are lost, silent or overdue; jobs of which the last hour or two went badly or
-- otherwise than usual; feeds that fell behind; items that could not be stored; maintenance that fails. It keeps nothing and sends nothing.
CREATE OR REPLACE FUNCTION wafer.generate_alerts(max_rows integer DEFAULT 200) RETURNS TABLE (
  severity text, kind text, site_id text, job text, subject text, message text, since_time timestamptz
)
LANGUAGE sql STABLE AS $$
  SELECT a.severity, a.kind, a.site_id, a.job, a.subject, a.message, a.since_time FROM (
    SELECT
      CASE o.state WHEN 'lost' THEN 'critical' ELSE 'warning' END AS severity, CASE WHEN o.state IN ('lost', 'silent') THEN o.state ELSE 'overdue' END AS kind,
      s.name AS site_id, coalesce(o.job, '') AS job,
      replace(o.trace_id::text, '-', '') || '-' || encode(int8send(o.span_id), 'hex') AS subject,
      CASE
        WHEN o.state = 'lost' THEN format('no sign for %s', make_interval(secs => round(o.lost_for_s::numeric)::double precision))
        WHEN o.state = 'silent' THEN 'heartbeats are missing'
        ELSE 'runs longer than expected'
      END AS message, o.start_time AS since_time
    FROM wafer_data.open_state o JOIN wafer_data.site s ON s.site_id = o.site_id
    WHERE o.state IN ('lost', 'silent') OR o.overdue
    UNION ALL
    SELECT
      CASE WHEN sum(h.success) = 0 THEN 'critical' ELSE 'warning' END, 'failing', s.name, h.job, h.job,
      format('%s of %s runs ended badly', sum(h.failure + h.error + h.timeout), sum(h.ended)), min(h.bucket)
    FROM wafer_data.hours_of(NULL, now() - interval '1 hour', now(), NULL) h JOIN wafer_data.site s ON s.site_id = h.site_id
    GROUP BY s.name, h.job
    HAVING sum(h.failure + h.error + h.timeout) >= 3 AND sum(h.failure + h.error + h.timeout) * 2 >= sum(h.ended)
    UNION ALL
    SELECT
      'warning', 'unusual', d.site_id, d.job, d.metric,
      format('%s is %s, usual at this hour of the week is %s', d.metric, round(d.value::numeric, 3), round(d.expected::numeric, 3)), d.bucket
    FROM wafer.detect_anomalies(interval '1 hour') d
    UNION ALL
    SELECT 'warning', 'feed behind', s.name, '', f.feed_id, 'its last beat is old: what its hosts send is not here yet', wafer.time_of(f.watermark_unix_ns)
    FROM wafer_data.feed f JOIN wafer_data.site s ON s.site_id = f.site_id
    WHERE wafer.time_of(f.watermark_unix_ns) BETWEEN now() - make_interval(secs => (SELECT dark_s FROM wafer.limits))
      AND now() - make_interval(secs => (SELECT behind_s + margin_s FROM wafer.limits))
    UNION ALL
    SELECT 'warning', 'dead letters', s.name, '', d.signal, format('%s items could not be stored: %s', count(*), left(max(d.reason), 200)), wafer.time_of(min(d.received_unix_ns))
    FROM wafer_data.dead_letter d JOIN wafer_data.site s ON s.site_id = d.site_id
    WHERE d.received_unix_ns > (extract(epoch FROM now() - interval '24 hours') * 1000000000)::bigint
    GROUP BY s.name, d.signal
    UNION ALL
    SELECT
      'critical', 'maintenance', '', '', m.step,
      CASE WHEN m.failing THEN m.last_report ELSE 'has not been done for too long: is `wafer maintain` running?' END, m.last_success_time
    FROM wafer.maintenance_status m WHERE m.failing OR m.late
    UNION ALL
    SELECT 'critical', 'stray rows', '', '', p.name, 'rows outside every prepared day', NULL FROM wafer_data.stray_partitions() p (name)
  ) a
  ORDER BY a.severity, a.since_time DESC NULLS LAST, a.kind, a.site_id, a.job, a.subject
  LIMIT least(max_rows, 1000)
$$;
