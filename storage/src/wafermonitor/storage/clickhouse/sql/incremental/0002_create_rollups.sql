-- Rollups of runs by hour, day, week and month, made by `rollups.py` from what changed; nothing adds up what may come twice.

-- What is counted of a run, where and when it started: read by hour, site and job. A run that moved stays with counted = 0 where it was.
CREATE TABLE IF NOT EXISTS run_measured (
  quarter Int64 CODEC(Delta(8), ZSTD(1)),
  site LowCardinality(String) CODEC(ZSTD(1)),
  job LowCardinality(String) CODEC(ZSTD(1)),
  trace_id FixedString(16) CODEC(NONE),
  span_id FixedString(8) CODEC(NONE),
  -- When the run was read, by a server's clock (us).
  version UInt64 CODEC(Delta(8), ZSTD(1)),
  counted Bool CODEC(ZSTD(1)),
  start_s Int64 CODEC(Delta(8), ZSTD(1)),
  ended Bool CODEC(ZSTD(1)),
  subjob Bool CODEC(ZSTD(1)),
  result LowCardinality(String) CODEC(ZSTD(1)),
  service LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
  equipment LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
  recipe LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
  product LowCardinality(Nullable(String)) CODEC(ZSTD(1)),
  duration_ns Nullable(Int64) CODEC(ZSTD(1)),
  cpu_ns Nullable(Int64) CODEC(ZSTD(1)),
  memory_bytes Nullable(Int64) CODEC(ZSTD(1)),
  queue_ns Nullable(Int64) CODEC(ZSTD(1)),
  received DateTime('UTC') CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(version) -- shard: cityHash64(trace_id)
ORDER BY (quarter, site, job, trace_id, span_id)
TTL received + INTERVAL {run_days} DAY
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- One row for each bucket, site and job, and for each of its apps, equipments, recipes and products: `dimension` says which, `value`
-- names it, both '' for all of the job. `unit`: hour, day, week or month of the time zone. `durations`: a histogram of 18 buckets for
-- each doubling; bucket k holds what is in (2^((k-1)/18), 2^(k/18)] ns, the first everything up to 1 ns.
CREATE TABLE IF NOT EXISTS job_rollup (
  zone LowCardinality(String),
  unit LowCardinality(String),
  bucket DateTime('UTC') CODEC(Delta(4), ZSTD(1)),
  site LowCardinality(String),
  job LowCardinality(String),
  dimension LowCardinality(String),
  value String CODEC(ZSTD(1)),
  version UInt64 CODEC(Delta(8), ZSTD(1)),
  open Int64 CODEC(ZSTD(1)),
  ended Int64 CODEC(ZSTD(1)),
  success Int64 CODEC(ZSTD(1)),
  failure Int64 CODEC(ZSTD(1)),
  error Int64 CODEC(ZSTD(1)),
  timeout Int64 CODEC(ZSTD(1)),
  cancellation Int64 CODEC(ZSTD(1)),
  skip Int64 CODEC(ZSTD(1)),
  subjobs Int64 CODEC(ZSTD(1)),
  duration_count Int64 CODEC(ZSTD(1)),
  duration_ns Int128 CODEC(ZSTD(1)),
  duration_min_ns Nullable(Int64) CODEC(ZSTD(1)),
  duration_max_ns Nullable(Int64) CODEC(ZSTD(1)),
  cpu_count Int64 CODEC(ZSTD(1)),
  cpu_ns Int128 CODEC(ZSTD(1)),
  cpu_min_ns Nullable(Int64) CODEC(ZSTD(1)),
  cpu_max_ns Nullable(Int64) CODEC(ZSTD(1)),
  memory_count Int64 CODEC(ZSTD(1)),
  memory_bytes Int128 CODEC(ZSTD(1)),
  memory_min_bytes Nullable(Int64) CODEC(ZSTD(1)),
  memory_max_bytes Nullable(Int64) CODEC(ZSTD(1)),
  queue_count Int64 CODEC(ZSTD(1)),
  queue_ns Int128 CODEC(ZSTD(1)),
  queue_min_ns Nullable(Int64) CODEC(ZSTD(1)),
  queue_max_ns Nullable(Int64) CODEC(ZSTD(1)),
  durations Tuple(buckets Array(Int16), counts Array(UInt64)) CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(version) -- shard: cityHash64(site, job)
ORDER BY (zone, unit, bucket, site, job, dimension, value)
TTL bucket + INTERVAL {rollup_days} DAY
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- How far the rollups are, in which zone, and who makes them.
CREATE TABLE IF NOT EXISTS rollup_state (
  one UInt8,
  at_us UInt64 DEFAULT toUInt64(toUnixTimestamp64Micro(now64(6))),
  holder String,
  token String,
  zone String
)
ENGINE = ReplacingMergeTree(at_us) -- shard: cityHash64(one)
ORDER BY one
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- What readers see, in the columns of the views on PostgreSQL.
CREATE VIEW IF NOT EXISTS job_stats AS
SELECT
  unit, toTimeZone(bucket, 'UTC') AS bucket, site AS site_id, job, dimension, value,
  ended + open AS started, open, ended, success, failure, error, timeout, cancellation, skip,
  ended - success - failure - error - timeout - cancellation - skip AS other,
  failure + error + timeout AS bad,
  if(success + failure + error + timeout = 0, NULL, success / (success + failure + error + timeout)) AS success_rate,
  subjobs,
  if(duration_count = 0, NULL, toFloat64(duration_ns) / 1e9) AS duration_sum_s,
  if(duration_count = 0, NULL, toFloat64(duration_ns) / duration_count / 1e9) AS duration_mean_s,
  duration_min_ns / 1e9 AS duration_min_s,
  if(duration_count = 0, NULL, transform(durations.buckets[arrayFirstIndex(sofar -> sofar >= greatest(1, ceil(duration_count * 0.5)),
    arrayCumSum(durations.counts))] AS bucket_5, [0], [0.], exp2(bucket_5 / 18.) * 9.807482905896975e-10)) AS duration_p50_s,
  if(duration_count = 0, NULL, transform(durations.buckets[arrayFirstIndex(sofar -> sofar >= greatest(1, ceil(duration_count * 0.95)),
    arrayCumSum(durations.counts))] AS bucket_95, [0], [0.], exp2(bucket_95 / 18.) * 9.807482905896975e-10)) AS duration_p95_s,
  if(duration_count = 0, NULL, transform(durations.buckets[arrayFirstIndex(sofar -> sofar >= greatest(1, ceil(duration_count * 0.99)),
    arrayCumSum(durations.counts))] AS bucket_99, [0], [0.], exp2(bucket_99 / 18.) * 9.807482905896975e-10)) AS duration_p99_s,
  duration_max_ns / 1e9 AS duration_max_s,
  if(cpu_count = 0, NULL, toFloat64(cpu_ns) / 1e9) AS cpu_sum_s,
  if(cpu_count = 0, NULL, toFloat64(cpu_ns) / cpu_count / 1e9) AS cpu_mean_s,
  cpu_min_ns / 1e9 AS cpu_min_s, cpu_max_ns / 1e9 AS cpu_max_s,
  if(memory_count = 0, NULL, toFloat64(memory_bytes) / memory_count) AS memory_mean_bytes,
  memory_min_bytes, memory_max_bytes,
  if(queue_count = 0, NULL, toFloat64(queue_ns) / queue_count / 1e9) AS queue_delay_mean_s,
  queue_min_ns / 1e9 AS queue_delay_min_s, queue_max_ns / 1e9 AS queue_delay_max_s,
  durations
FROM job_rollup FINAL
WHERE zone = (SELECT argMax(zone, at_us) FROM rollup_state) AND open + ended > 0;

CREATE VIEW IF NOT EXISTS job_hourly_stats AS
SELECT * EXCEPT (unit, dimension, value) FROM job_stats WHERE unit = 'hour' AND dimension = '';

CREATE VIEW IF NOT EXISTS job_hourly_breakdown AS
SELECT * EXCEPT (unit) FROM job_stats WHERE unit = 'hour' AND dimension != '';

CREATE VIEW IF NOT EXISTS job_daily_stats AS
SELECT * EXCEPT (unit, dimension, value) FROM job_stats WHERE unit = 'day' AND dimension = '';

CREATE VIEW IF NOT EXISTS job_daily_breakdown AS
SELECT * EXCEPT (unit) FROM job_stats WHERE unit = 'day' AND dimension != '';

CREATE VIEW IF NOT EXISTS job_weekly_stats AS
SELECT * EXCEPT (unit, dimension, value) FROM job_stats WHERE unit = 'week' AND dimension = '';

CREATE VIEW IF NOT EXISTS job_weekly_breakdown AS
SELECT * EXCEPT (unit) FROM job_stats WHERE unit = 'week' AND dimension != '';

CREATE VIEW IF NOT EXISTS job_monthly_stats AS
SELECT * EXCEPT (unit, dimension, value) FROM job_stats WHERE unit = 'month' AND dimension = '';

CREATE VIEW IF NOT EXISTS job_monthly_breakdown AS
SELECT * EXCEPT (unit) FROM job_stats WHERE unit = 'month' AND dimension != '';
