-- What people and BI tools look at first. Every view is bounded: by the last hours or days, or by a number of rows.

-- Runs that have not ended, judged at this moment.
CREATE OR REPLACE VIEW wafer_data.open_state AS
SELECT
  r.site_id, r.job, r.trace_id, r.span_id, r.run_id, r.service, r.equipment, nullif(r.start_time, '-infinity') AS start_time,
  r.expected_duration_s, j.state, j.lost_for_s, wafer.overdue(r.end_rank, r.start_unix_ns, r.expected_duration_s, r.deadline_unix_ns, n.now_ns) AS overdue
FROM wafer_data.run_open r
LEFT JOIN wafer_data.process p USING (process_key)
LEFT JOIN wafer_data.feed f ON f.site_id = r.site_id AND f.feed_id = r.feed_id
CROSS JOIN LATERAL (SELECT (extract(epoch FROM clock_timestamp()) * 1000000000)::bigint AS now_ns) n
CROSS JOIN LATERAL wafer.run_state(
  r.end_rank, r.heartbeat_interval_s, p.interval_s, r.last_sign_unix_ns, p.beat_unix_ns, f.watermark_unix_ns, f.received_unix_ns, f.skew_ns,
  n.now_ns, (SELECT l FROM wafer.limits l)
) j
WHERE r.end_rank = 0 AND NOT coalesce(r.inferred, false);

-- For each job of each site that has ended or is open within seven days: how it is, and how its last 24 hours were.
CREATE OR REPLACE VIEW wafer.job_health_summary AS
WITH counted AS (
  SELECT
    site_id, job,
    sum(ended) FILTER (WHERE bucket > now() - interval '24 hours') AS ended_24h,
    sum(success) FILTER (WHERE bucket > now() - interval '24 hours') AS success_24h,
    sum(failure + error + timeout) FILTER (WHERE bucket > now() - interval '24 hours') AS bad_24h,
    wafer.sum_durations(durations) FILTER (WHERE bucket > now() - interval '24 hours') AS durations_24h,
    sum(ended) AS ended_7d,
    wafer.sum_durations(durations) AS durations_7d
  FROM wafer_data.job_hourly_now
  WHERE dimension = 0 AND bucket > now() - interval '7 days' AND bucket < now() + interval '1 hour'
  GROUP BY site_id, job
), open AS (
  SELECT
    site_id, coalesce(job, '') AS job, count(*) AS open,
    count(*) FILTER (WHERE state = 'running') AS running, count(*) FILTER (WHERE state = 'silent') AS silent,
    count(*) FILTER (WHERE state = 'lost') AS lost, count(*) FILTER (WHERE state = 'unknown') AS unknown,
    count(*) FILTER (WHERE overdue) AS overdue, min(start_time) AS oldest_open_time
  FROM wafer_data.open_state
  GROUP BY site_id, coalesce(job, '')
)
SELECT
  s.name AS site_id, b.job,
  CASE
    WHEN b.lost > 0 OR b.silent > 0 OR last.result IN ('failure', 'error', 'timeout') THEN 'failing'
    WHEN b.overdue > 0 OR b.bad_24h > 0 THEN 'warning'
    WHEN b.open > 0 OR b.ended_24h > 0 THEN 'good'
    ELSE 'idle'
  END AS health,
  coalesce(b.open, 0) AS open, coalesce(b.running, 0) AS running, coalesce(b.silent, 0) AS silent, coalesce(b.lost, 0) AS lost,
  coalesce(b.unknown, 0) AS unknown, coalesce(b.overdue, 0) AS overdue, b.oldest_open_time,
  coalesce(b.ended_24h, 0)::bigint AS ended_24h, coalesce(b.success_24h, 0)::bigint AS success_24h, coalesce(b.bad_24h, 0)::bigint AS bad_24h,
  b.success_24h::double precision / nullif(b.success_24h + b.bad_24h, 0)::double precision AS success_rate_24h,
  wafer.percentile(b.durations_24h, 0.5) AS duration_p50_24h_s, wafer.percentile(b.durations_24h, 0.95) AS duration_p95_24h_s,
  wafer.percentile(b.durations_7d, 0.5) AS duration_p50_7d_s,
  last.start_time AS last_start_time, wafer.time_of(last.end_unix_ns) AS last_end_time, last.result AS last_result, last.error_type AS last_error_type
FROM (SELECT * FROM counted FULL JOIN open USING (site_id, job)) b
JOIN wafer_data.site s ON s.site_id = b.site_id
LEFT JOIN LATERAL (
  SELECT r.start_time, r.end_unix_ns, r.result, r.error_type
  FROM wafer_data.run r
  WHERE r.job = b.job AND r.site_id = b.site_id AND r.start_time > now() - interval '7 days'
  ORDER BY r.start_time DESC LIMIT 1
) last ON true;

-- One row: is everything that this store stands for in order?
CREATE OR REPLACE VIEW wafer.system_health AS
SELECT
  now() AS time,
  current_setting('server_version') AS postgresql_version,
  (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb') AS timescaledb_version,
  pg_database_size(current_database()) AS database_bytes,
  o.open, o.running, o.silent, o.lost, o.unknown, o.overdue,
  h.ended AS ended_last_hour, h.bad AS bad_last_hour,
  f.feeds, f.feeds_behind, f.newest_beat_time,
  d.dead_letters, d.newest_dead_letter_time,
  w.oldest AS hot_from, w.newest AS hot_to,
  (SELECT count(*) FROM wafer_data.stray_partitions()) AS stray_partitions,
  CASE WHEN wafer_data.has_unrolled(s.snapshot) THEN extract(epoch FROM clock_timestamp() - s.taken_at)::double precision ELSE 0 END AS rollup_lag_s,
  s.built_from > '-infinity' OR s.system_identifier <> (SELECT c.system_identifier FROM pg_control_system() c) AS rollups_building,
  m.last_maintenance_time, m.failing_steps, m.late_steps
FROM (
  SELECT
    count(*) AS open, count(*) FILTER (WHERE state = 'running') AS running, count(*) FILTER (WHERE state = 'silent') AS silent,
    count(*) FILTER (WHERE state = 'lost') AS lost, count(*) FILTER (WHERE state = 'unknown') AS unknown, count(*) FILTER (WHERE overdue) AS overdue
  FROM wafer_data.open_state
) o
CROSS JOIN (
  SELECT coalesce(sum(ended), 0)::bigint AS ended, coalesce(sum(failure + error + timeout), 0)::bigint AS bad
  FROM wafer_data.job_hourly_now
  WHERE dimension = 0 AND bucket > now() - interval '2 hours' AND bucket <= now() - interval '1 hour'
) h
CROSS JOIN (
  SELECT
    count(*) AS feeds, wafer.time_of(max(watermark_unix_ns)) AS newest_beat_time,
    count(*) FILTER (
      WHERE watermark_unix_ns IS NULL OR wafer.time_of(watermark_unix_ns) < now() - make_interval(secs => (SELECT behind_s + margin_s FROM wafer.limits))
    ) AS feeds_behind
  FROM wafer_data.feed
) f
CROSS JOIN (
  SELECT count(*) AS dead_letters, wafer.time_of(max(received_unix_ns)) AS newest_dead_letter_time FROM wafer_data.dead_letter
) d
CROSS JOIN wafer_data.hot_window() w
CROSS JOIN wafer_data.rollup_state s
CROSS JOIN (
  SELECT max(last_success_time) AS last_maintenance_time, count(*) FILTER (WHERE failing) AS failing_steps,
    count(*) FILTER (WHERE late) AS late_steps
  FROM wafer.maintenance_status
) m;

-- For each app of each site: how many of its runs went well, in 24 hours and in 7 days.
CREATE OR REPLACE VIEW wafer.app_success_rates AS
SELECT
  s.name AS site_id, r.value AS app,
  coalesce(sum(r.ended) FILTER (WHERE r.bucket > now() - interval '24 hours'), 0)::bigint AS ended_24h,
  coalesce(sum(r.failure + r.error + r.timeout) FILTER (WHERE r.bucket > now() - interval '24 hours'), 0)::bigint AS bad_24h,
  (sum(r.success) FILTER (WHERE r.bucket > now() - interval '24 hours'))::double precision
    / nullif(sum(r.success + r.failure + r.error + r.timeout) FILTER (WHERE r.bucket > now() - interval '24 hours'), 0)::double precision AS success_rate_24h,
  sum(r.ended)::bigint AS ended_7d, sum(r.failure + r.error + r.timeout)::bigint AS bad_7d,
  sum(r.success)::double precision / nullif(sum(r.success + r.failure + r.error + r.timeout), 0)::double precision AS success_rate_7d
FROM wafer_data.job_hourly_now r JOIN wafer_data.site s USING (site_id)
WHERE r.dimension = 1 AND r.bucket > now() - interval '7 days' AND r.bucket < now() + interval '1 hour'
GROUP BY s.name, r.value;

-- The newest 500 runs of seven days that ended badly.
CREATE OR REPLACE VIEW wafer.recent_failures AS
SELECT
  r.start_time AS time, s.name AS site_id, r.job, r.run_id, replace(r.trace_id::text, '-', '') AS trace_id, encode(int8send(r.span_id), 'hex') AS span_id,
  r.result, r.error_type, wafer.time_of(r.end_unix_ns) AS end_time, wafer.seconds(r.duration_ns) AS duration_s,
  r.service AS app, r.equipment, r.recipe, r.product, r.lot_ids, r.substrate_ids, r.attempt, r.owner
FROM (
  SELECT * FROM wafer_data.run
  WHERE result IN ('failure', 'error', 'timeout') AND start_time > now() - interval '7 days'
  ORDER BY start_time DESC LIMIT 500
) r
JOIN wafer_data.site s ON s.site_id = r.site_id
ORDER BY r.start_time DESC;

-- How far from the median the middle one of the distances is (the median absolute deviation), in seconds.
CREATE OR REPLACE FUNCTION wafer.median_deviation(durations bigint[]) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT distance FROM (
    SELECT distance, sum(n) OVER (ORDER BY distance) AS so_far, sum(n) OVER () AS total
    FROM (
      SELECT abs(wafer_data.percentile_of(ARRAY[entry], 0.5, wafer_data.entry_count(entry)) - wafer.percentile(durations, 0.5)) AS distance,
        wafer_data.entry_count(entry) AS n
      FROM unnest(durations) entry
    ) entries
  ) sorted
  WHERE so_far * 2 >= total ORDER BY distance LIMIT 1
$$;

-- Runs of the last 24 hours that took longer or shorter than their job does: 200 of the farthest. `score` is how many times the median
-- deviation of 28 days (5 % of the median at least), times 0.6745, lies between: about as many standard deviations.
CREATE OR REPLACE VIEW wafer.performance_outliers AS
WITH usual AS MATERIALIZED (
  SELECT
    site_id, job, runs, median_s,
    greatest(wafer.median_deviation(durations), median_s * 0.05, 0.001) / 0.6745 AS deviation_s
  FROM (
    SELECT
      site_id, job, sum(duration_count) AS runs, wafer.sum_durations(durations) AS durations,
      wafer.percentile(wafer.sum_durations(durations), 0.5) AS median_s
    FROM wafer_data.job_daily_now
    WHERE dimension = 0 AND job <> '' AND bucket > now() - interval '29 days' AND bucket <= now()
    GROUP BY site_id, job
  ) j
  WHERE runs >= 20
)
SELECT
  r.start_time AS time, s.name AS site_id, r.job, r.run_id, replace(r.trace_id::text, '-', '') AS trace_id, encode(int8send(r.span_id), 'hex') AS span_id,
  r.result, wafer.seconds(r.duration_ns) AS duration_s, u.median_s, (wafer.seconds(r.duration_ns) - u.median_s) / u.deviation_s AS score,
  CASE WHEN wafer.seconds(r.duration_ns) > u.median_s THEN 'slow' ELSE 'fast' END AS direction,
  r.service AS app, r.equipment, r.recipe, r.product, r.lot_ids
FROM usual u
JOIN wafer_data.run r ON r.job = u.job AND r.site_id = u.site_id
JOIN wafer_data.site s ON s.site_id = u.site_id
WHERE r.start_time > now() - interval '24 hours' AND r.duration_ns >= 0 AND abs(wafer.seconds(r.duration_ns) - u.median_s) > 3.5 * u.deviation_s
ORDER BY abs(wafer.seconds(r.duration_ns) - u.median_s) / u.deviation_s DESC
LIMIT 200;

-- Statements that take most of the server's time, when the extension pg_stat_statements is there and loaded; else no rows.
CREATE OR REPLACE FUNCTION wafer_data.slow_statements() RETURNS TABLE (
  query text, calls bigint, total_ms double precision, mean_ms double precision, max_ms double precision, rows bigint, share double precision
)
LANGUAGE plpgsql STABLE AS $$
DECLARE
  place constant text := (SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_stat_statements');
BEGIN
  IF place IS NULL THEN
    RETURN;
  END IF;
  RETURN QUERY EXECUTE format(
    'SELECT left(s.query, 1000), s.calls, s.total_exec_time, s.mean_exec_time, s.max_exec_time, s.rows,
       s.total_exec_time / nullif(sum(s.total_exec_time) OVER (), 0)
     FROM %I.pg_stat_statements s WHERE s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
     ORDER BY s.total_exec_time DESC LIMIT 50', place
  );
EXCEPTION WHEN object_not_in_prerequisite_state THEN
  RETURN; -- made, but not in shared_preload_libraries
END
$$;
CREATE OR REPLACE VIEW wafer.slow_queries AS SELECT * FROM wafer_data.slow_statements();

-- Tables in which the extension keeps the rows of chunks that are compressed. Their names stand in no catalog that all versions share.
CREATE OR REPLACE FUNCTION wafer_data.compressed_tables() RETURNS TABLE (chunk oid, compressed oid)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass('_timescaledb_catalog.compression_settings') AND attname = 'compress_relid') THEN
    RETURN QUERY EXECUTE
      'SELECT relid::oid, compress_relid::oid FROM _timescaledb_catalog.compression_settings WHERE compress_relid IS NOT NULL';
  ELSIF EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass('_timescaledb_catalog.chunk') AND attname = 'compressed_chunk_id') THEN
    RETURN QUERY EXECUTE
      'SELECT to_regclass(format(''%I.%I'', c.schema_name, c.table_name))::oid, to_regclass(format(''%I.%I'', o.schema_name, o.table_name))::oid
       FROM _timescaledb_catalog.chunk c JOIN _timescaledb_catalog.chunk o ON o.id = c.compressed_chunk_id';
  END IF;
END
$$;

-- Tables and the parts of partitioned ones, with what they take: native partitions and the chunks of hypertables alike, each chunk with the
-- table that holds its compressed rows.
CREATE OR REPLACE VIEW wafer_data.part AS
SELECT
  c.oid, coalesce(p.relname, c.relname) AS table_name, c.oid::regclass::text AS part,
  p.oid IS NOT NULL AS is_part, pg_get_expr(c.relpartbound, c.oid) AS bound, coalesce(pg_get_expr(c.relpartbound, c.oid) = 'DEFAULT', false) AS is_default,
  pg_total_relation_size(c.oid) + coalesce(pg_total_relation_size(z.compressed), 0) AS bytes,
  pg_table_size(c.oid) + coalesce(pg_table_size(z.compressed), 0) AS table_bytes,
  pg_indexes_size(c.oid) + coalesce(pg_indexes_size(z.compressed), 0) AS index_bytes,
  greatest(c.reltuples, 0)::bigint AS estimated_rows,
  z.compressed IS NOT NULL AS is_compressed, coalesce(pg_total_relation_size(z.compressed), 0) AS compressed_bytes
FROM pg_class c
LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
LEFT JOIN pg_class p ON p.oid = i.inhparent
LEFT JOIN wafer_data.compressed_tables() z ON z.chunk = c.oid
WHERE c.relkind = 'r' AND coalesce(p.relnamespace, c.relnamespace) = 'wafer_data'::regnamespace;

-- Bytes of each table with everything that belongs to it, the largest first.
CREATE OR REPLACE VIEW wafer.database_size_overview AS
SELECT
  table_name, count(*) FILTER (WHERE is_part) AS parts, sum(bytes)::bigint AS bytes, sum(table_bytes)::bigint AS table_bytes,
  sum(index_bytes)::bigint AS index_bytes, sum(estimated_rows)::bigint AS estimated_rows,
  sum(bytes)::double precision / nullif(pg_database_size(current_database()), 0) AS share_of_database
FROM wafer_data.part
GROUP BY table_name
ORDER BY sum(bytes) DESC;

-- Each day or month of each table: what it takes, whether it is vacuumed and analyzed, and what is wrong with it, if anything is.
CREATE OR REPLACE VIEW wafer.chunk_health AS
SELECT
  p.table_name, p.part AS chunk, b.range_from, b.range_to, p.bytes, p.index_bytes, p.estimated_rows,
  s.n_dead_tup AS dead_rows, greatest(s.last_vacuum, s.last_autovacuum) AS vacuumed_time, greatest(s.last_analyze, s.last_autoanalyze) AS analyzed_time,
  CASE
    WHEN p.is_default AND p.table_name <> 'run' AND p.table_bytes > 0 AND s.n_live_tup > 0 THEN 'rows outside every prepared day'
    WHEN s.n_dead_tup > 10000 AND s.n_dead_tup > s.n_live_tup THEN 'more dead rows than live ones'
    WHEN s.n_mod_since_analyze > 10000 AND s.n_mod_since_analyze > s.n_live_tup / 2 THEN 'statistics are stale'
  END AS problem
FROM wafer_data.part p
LEFT JOIN pg_stat_user_tables s ON s.relid = p.oid
LEFT JOIN LATERAL (
  SELECT m[1]::timestamptz AS range_from, m[2]::timestamptz AS range_to
  FROM regexp_match(p.bound, 'FROM \(''([^'']+)''\) TO \(''([^'']+)''\)') m
) b ON true
WHERE p.is_part
ORDER BY p.table_name, b.range_from DESC NULLS LAST;

-- Of each table by time: how many of its chunks are compressed, and what that saved. Only TimescaleDB's Community edition compresses.
CREATE OR REPLACE FUNCTION wafer_data.compressed_chunks() RETURNS TABLE (table_name text, chunks bigint, before_bytes numeric, after_bytes numeric)
LANGUAGE plpgsql STABLE AS $$
BEGIN
  IF wafer_data.tier() <> 'community' THEN
    RETURN;
  END IF;
  RETURN QUERY EXECUTE format(
    'SELECT h.hypertable_name::text, count(*), sum(s.before_compression_total_bytes), sum(s.after_compression_total_bytes)
     FROM timescaledb_information.hypertables h
     CROSS JOIN LATERAL %s(format(''%%I.%%I'', h.hypertable_schema, h.hypertable_name)::regclass) s
     WHERE h.hypertable_schema = ''wafer_data'' AND s.compression_status = ''Compressed''
     GROUP BY h.hypertable_name', wafer_data.timescaledb('chunk_compression_stats')
  );
END
$$;
CREATE OR REPLACE VIEW wafer.compression_status AS
SELECT
  p.table_name, count(*) AS chunks, coalesce(max(c.chunks), 0) AS compressed_chunks,
  sum(p.bytes - p.compressed_bytes)::bigint AS uncompressed_bytes, sum(p.compressed_bytes)::bigint AS compressed_bytes,
  (max(c.before_bytes) / nullif(max(c.after_bytes), 0))::double precision AS ratio
FROM wafer_data.part p LEFT JOIN wafer_data.compressed_chunks() c ON c.table_name = p.table_name::text
WHERE p.is_part
GROUP BY p.table_name
ORDER BY p.table_name;
