-- Every table, as one server holds it. `schema.render` makes the form of a cluster from the same text: each engine becomes its
-- replicated twin, each table gets the suffix _local and a distributed one before it, which sends a row to the shard that the
-- expression after "shard:" names. What is stored twice has one key, one partition and one shard, so that it meets itself.
--
-- Ids are raw bytes; one of zeros is none. Times are ns since 1970. JSON is kept to the letter, as text.
-- A wrong clock writes any day of three centuries, and each partition costs files: days share the 1024 partitions.

CREATE TABLE IF NOT EXISTS span (
  trace_id FixedString(16) CODEC(ZSTD(1)),
  span_id FixedString(8) CODEC(NONE),
  parent_span_id FixedString(8) CODEC(ZSTD(1)),
  start_ns Int64 CODEC(Delta(8), ZSTD(1)),
  duration_ns Int64 CODEC(ZSTD(1)),
  received_ns Int64 CODEC(Delta(8), ZSTD(1)),
  -- The first that was written has the largest, and stays.
  precedence UInt64 CODEC(Delta(8), ZSTD(1)),
  kind Int32 CODEC(ZSTD(1)),
  status Int32 CODEC(ZSTD(1)),
  flags UInt32 CODEC(ZSTD(1)),
  dropped_attributes UInt32 CODEC(ZSTD(1)),
  dropped_events UInt32 CODEC(ZSTD(1)),
  dropped_links UInt32 CODEC(ZSTD(1)),
  resource_key LowCardinality(FixedString(32)) CODEC(ZSTD(1)),
  scope_key LowCardinality(FixedString(32)) CODEC(ZSTD(1)),
  site LowCardinality(String) CODEC(ZSTD(1)),
  service LowCardinality(String) CODEC(ZSTD(1)),
  name LowCardinality(String) CODEC(ZSTD(1)),
  status_message String CODEC(ZSTD(1)),
  trace_state String CODEC(ZSTD(1)),
  attributes String CODEC(ZSTD(1)),
  -- Empty: none.
  events String CODEC(ZSTD(1)),
  links String CODEC(ZSTD(1)),
  start_time DateTime64(9, 'UTC') ALIAS fromUnixTimestamp64Nano(start_ns, 'UTC')
)
ENGINE = ReplacingMergeTree(precedence) -- shard: cityHash64(trace_id)
PARTITION BY positiveModulo(intDiv(start_ns, 86400000000000), 1024)
ORDER BY (trace_id, span_id, start_ns, site)
TTL toDateTime(intDiv(received_ns, 1000000000), 'UTC') + INTERVAL {raw_days} DAY
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, ttl_only_drop_parts = 1;

-- Where the newest roots are, by start.
CREATE TABLE IF NOT EXISTS root_span (
  start_ns Int64 CODEC(Delta(8), ZSTD(1)),
  trace_id FixedString(16) CODEC(NONE),
  span_id FixedString(8) CODEC(NONE),
  site LowCardinality(String) CODEC(ZSTD(1)),
  service LowCardinality(String) CODEC(ZSTD(1)),
  received_ns Int64 CODEC(Delta(8), ZSTD(1))
)
ENGINE = ReplacingMergeTree() -- shard: cityHash64(trace_id)
PARTITION BY positiveModulo(intDiv(start_ns, 86400000000000), 1024)
ORDER BY (start_ns, trace_id, span_id, site)
TTL toDateTime(intDiv(received_ns, 1000000000), 'UTC') + INTERVAL {raw_days} DAY
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, ttl_only_drop_parts = 1;

-- A copy of rows, not a count of them: what comes twice is replaced there, too.
CREATE MATERIALIZED VIEW IF NOT EXISTS root_span_of_span TO root_span AS
SELECT start_ns, trace_id, span_id, site, service, received_ns
FROM span
WHERE parent_span_id = toFixedString('', 8);

CREATE TABLE IF NOT EXISTS log_record (
  trace_id FixedString(16) CODEC(ZSTD(1)),
  span_id FixedString(8) CODEC(ZSTD(1)),
  digest FixedString(32) CODEC(NONE),
  time_ns Int64 CODEC(Delta(8), ZSTD(1)),
  observed_ns Int64 CODEC(Delta(8), ZSTD(1)),
  received_ns Int64 CODEC(Delta(8), ZSTD(1)),
  precedence UInt64 CODEC(Delta(8), ZSTD(1)),
  severity Int32 CODEC(ZSTD(1)),
  flags UInt32 CODEC(ZSTD(1)),
  dropped_attributes UInt32 CODEC(ZSTD(1)),
  resource_key LowCardinality(FixedString(32)) CODEC(ZSTD(1)),
  scope_key LowCardinality(FixedString(32)) CODEC(ZSTD(1)),
  site LowCardinality(String) CODEC(ZSTD(1)),
  severity_text LowCardinality(String) CODEC(ZSTD(1)),
  event_name LowCardinality(String) CODEC(ZSTD(1)),
  body String CODEC(ZSTD(1)),
  attributes String CODEC(ZSTD(1)),
  time DateTime64(9, 'UTC') ALIAS fromUnixTimestamp64Nano(time_ns, 'UTC')
)
ENGINE = ReplacingMergeTree(precedence) -- shard: cityHash64(trace_id)
PARTITION BY positiveModulo(intDiv(time_ns, 86400000000000), 1024)
ORDER BY (trace_id, time_ns, digest)
TTL toDateTime(intDiv(received_ns, 1000000000), 'UTC') + INTERVAL {raw_days} DAY
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, ttl_only_drop_parts = 1;

CREATE TABLE IF NOT EXISTS metric_point (
  series_key FixedString(32) CODEC(ZSTD(1)),
  time_ns Int64 CODEC(DoubleDelta, ZSTD(1)),
  start_ns Nullable(Int64) CODEC(ZSTD(1)),
  received_ns Int64 CODEC(DoubleDelta, ZSTD(1)),
  precedence UInt64 CODEC(DoubleDelta, ZSTD(1)),
  value Nullable(Float64) CODEC(ZSTD(1)),
  count Nullable(Int64) CODEC(ZSTD(1)),
  sum Nullable(Float64) CODEC(ZSTD(1)),
  min Nullable(Float64) CODEC(ZSTD(1)),
  max Nullable(Float64) CODEC(ZSTD(1)),
  flags UInt32 CODEC(ZSTD(1)),
  -- Bit 0: it has bounds, 1: buckets, 2: quantile values. An array cannot be null.
  has UInt8 CODEC(ZSTD(1)),
  bounds Array(Float64) CODEC(ZSTD(1)),
  buckets Array(Int64) CODEC(ZSTD(1)),
  quantile_values Array(Float64) CODEC(ZSTD(1)),
  time DateTime64(9, 'UTC') ALIAS fromUnixTimestamp64Nano(time_ns, 'UTC')
)
ENGINE = ReplacingMergeTree(precedence) -- shard: cityHash64(series_key)
PARTITION BY positiveModulo(intDiv(time_ns, 86400000000000), 1024)
ORDER BY (series_key, time_ns)
TTL toDateTime(intDiv(received_ns, 1000000000), 'UTC') + INTERVAL {raw_days} DAY
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, ttl_only_drop_parts = 1;

-- What many rows share, by the hash of itself. A writer sends it again every day that it is in use.
CREATE TABLE IF NOT EXISTS metric_series (
  site LowCardinality(String),
  process_key FixedString(16),
  service LowCardinality(String),
  name LowCardinality(String),
  key FixedString(32),
  resource_key FixedString(32),
  scope_key FixedString(32),
  unit LowCardinality(String),
  type LowCardinality(String),
  temporality Int32,
  monotonic Bool,
  attributes String CODEC(ZSTD(1)),
  seen DateTime('UTC') CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(seen) -- shard: cityHash64(key)
ORDER BY (site, process_key, service, name, key)
TTL seen + INTERVAL {raw_days} DAY + INTERVAL 30 DAY
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS resource (
  key FixedString(32),
  site LowCardinality(String),
  feed String,
  service LowCardinality(String),
  service_version LowCardinality(String),
  process_key FixedString(16),
  -- Bit 0: it has a feed, 1: a version, 2: a process.
  has UInt8,
  attributes String CODEC(ZSTD(1)),
  seen DateTime('UTC') CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(seen) -- shard: cityHash64(key)
ORDER BY key
TTL seen + INTERVAL {raw_days} DAY + INTERVAL 30 DAY
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS scope (
  key FixedString(32),
  name String,
  version String,
  attributes String,
  seen DateTime('UTC') CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(seen) -- shard: cityHash64(key)
ORDER BY key
TTL seen + INTERVAL {raw_days} DAY + INTERVAL 30 DAY
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- The twin of `runs.merge`, column by column: every message is a row, and rows with one key become one when they are merged or read
-- with FINAL. They are read by key, a hundred from anywhere and whole, so the granules are small and each has its columns together in one
-- file; what is searched stands in `run_start` and `run_word`. `r` of what is described is 0 not known, 1 announced, 2 of the final
-- span, which counts more; then the larger value.
CREATE TABLE IF NOT EXISTS run (
  trace_id FixedString(16) CODEC(ZSTD(1)),
  span_id FixedString(8) CODEC(NONE),
  site LowCardinality(String) CODEC(ZSTD(1)),
  start_ns SimpleAggregateFunction(min, Nullable(Int64)) CODEC(ZSTD(1)),
  final_fields SimpleAggregateFunction(groupBitOr, UInt32) CODEC(ZSTD(1)),
  -- Bit 0 of `has`: it has a time, 1: a result, 2: an error type.
  ending SimpleAggregateFunction(max, Tuple(rank UInt8, end_ns Int64, result String, error_type String, has UInt8)) CODEC(ZSTD(1)),
  heartbeat_interval_s SimpleAggregateFunction(max, Nullable(Float64)) CODEC(ZSTD(1)),
  last_sign_ns SimpleAggregateFunction(max, Nullable(Int64)) CODEC(ZSTD(1)),
  -- Bit 0 of `has`: there is one, then a bit for each other field from `ratio` on. What is not told is the least of its type.
  progress SimpleAggregateFunction(max, Tuple(
    at_ns Int64, ratio Float64, completed Float64, total Float64, unit String, stage String, message String, has UInt8
  )) CODEC(ZSTD(1)),
  cpu_s SimpleAggregateFunction(max, Nullable(Float64)) CODEC(ZSTD(1)),
  memory_bytes SimpleAggregateFunction(max, Nullable(Int64)) CODEC(ZSTD(1)),
  inferred SimpleAggregateFunction(min, UInt8) CODEC(ZSTD(1)),
  received_ns SimpleAggregateFunction(max, Nullable(Int64)) CODEC(ZSTD(1)),
  job SimpleAggregateFunction(max, Tuple(r UInt8, v String)) CODEC(ZSTD(1)),
  run_id SimpleAggregateFunction(max, Tuple(r UInt8, v String)) CODEC(ZSTD(1)),
  parent_span_id SimpleAggregateFunction(max, Tuple(r UInt8, v FixedString(8))) CODEC(ZSTD(1)),
  parent_run_id SimpleAggregateFunction(max, Tuple(r UInt8, v String)) CODEC(ZSTD(1)),
  feed SimpleAggregateFunction(max, Tuple(r UInt8, v String)) CODEC(ZSTD(1)),
  service SimpleAggregateFunction(max, Tuple(r UInt8, v String)) CODEC(ZSTD(1)),
  service_version SimpleAggregateFunction(max, Tuple(r UInt8, v String)) CODEC(ZSTD(1)),
  attempt SimpleAggregateFunction(max, Tuple(r UInt8, v Int64)) CODEC(ZSTD(1)),
  trigger SimpleAggregateFunction(max, Tuple(r UInt8, v String)) CODEC(ZSTD(1)),
  nominal_time_ns SimpleAggregateFunction(max, Tuple(r UInt8, v Int64)) CODEC(ZSTD(1)),
  expected_duration_s SimpleAggregateFunction(max, Tuple(r UInt8, v Float64)) CODEC(ZSTD(1)),
  deadline_ns SimpleAggregateFunction(max, Tuple(r UInt8, v Int64)) CODEC(ZSTD(1)),
  owner SimpleAggregateFunction(max, Tuple(r UInt8, v String)) CODEC(ZSTD(1)),
  equipment SimpleAggregateFunction(max, Tuple(r UInt8, v String)) CODEC(ZSTD(1)),
  recipe SimpleAggregateFunction(max, Tuple(r UInt8, v String)) CODEC(ZSTD(1)),
  product SimpleAggregateFunction(max, Tuple(r UInt8, v String)) CODEC(ZSTD(1)),
  lot_ids SimpleAggregateFunction(max, Tuple(r UInt8, v Array(String))) CODEC(ZSTD(1)),
  substrate_ids SimpleAggregateFunction(max, Tuple(r UInt8, v Array(String))) CODEC(ZSTD(1)),
  process_key SimpleAggregateFunction(max, Tuple(r UInt8, v FixedString(16))) CODEC(ZSTD(1)),
  attributes SimpleAggregateFunction(max, Tuple(r UInt8, v String)) CODEC(ZSTD(1)),
  -- Every quarter of an hour and every job that a message claimed, '' for none: where the rollups may have counted the run before.
  quarters SimpleAggregateFunction(groupUniqArrayArray, Array(Int64))
    DEFAULT if(ifNull(start_ns, 0) BETWEEN 31536000000000000 AND 3786912000000000000, [intDiv(assumeNotNull(start_ns), 900000000000)], [])
    CODEC(ZSTD(1)),
  jobs SimpleAggregateFunction(groupUniqArrayArray, Array(String)) DEFAULT [job.2] CODEC(ZSTD(1))
)
ENGINE = AggregatingMergeTree() -- shard: cityHash64(trace_id)
ORDER BY (trace_id, span_id, site)
TTL toDateTime(intDiv(ifNull(received_ns, 4102444800000000000), 1000000000), 'UTC') + INTERVAL {run_days} DAY
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, index_granularity = 512,
  min_bytes_for_wide_part = 1000000000000, min_rows_for_wide_part = 1000000000000;

-- Every start that a message claimed for a run, and what the messages that claimed it said of what is searched; the earliest is the
-- run's. A message does not know it, so it cannot order `run`. A message without a start claims the least number. What stands here only
-- proposes runs: a word that counts may stand at another start, or another word may count.
CREATE TABLE IF NOT EXISTS run_start (
  start_ns Int64 CODEC(Delta(8), ZSTD(1)),
  trace_id FixedString(16) CODEC(NONE),
  span_id FixedString(8) CODEC(NONE),
  site LowCardinality(String) CODEC(ZSTD(1)),
  received SimpleAggregateFunction(max, DateTime('UTC')) CODEC(Delta, ZSTD(1)),
  ended SimpleAggregateFunction(max, UInt8) CODEC(ZSTD(1)),
  result SimpleAggregateFunction(groupUniqArrayArray, Array(String)) CODEC(ZSTD(1)),
  job SimpleAggregateFunction(groupUniqArrayArray, Array(String)) CODEC(ZSTD(1)),
  app SimpleAggregateFunction(groupUniqArrayArray, Array(String)) CODEC(ZSTD(1)),
  equipment SimpleAggregateFunction(groupUniqArrayArray, Array(String)) CODEC(ZSTD(1)),
  recipe SimpleAggregateFunction(groupUniqArrayArray, Array(String)) CODEC(ZSTD(1)),
  product SimpleAggregateFunction(groupUniqArrayArray, Array(String)) CODEC(ZSTD(1)),
  INDEX by_end ended TYPE minmax
)
ENGINE = AggregatingMergeTree() -- shard: cityHash64(trace_id)
ORDER BY (start_ns, trace_id, span_id, site)
TTL received + INTERVAL {run_days} DAY
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, index_granularity = 1024;

CREATE MATERIALIZED VIEW IF NOT EXISTS run_start_of_run TO run_start AS
SELECT
  ifNull(run.start_ns, -9223372036854775808) AS start_ns, trace_id, span_id, site,
  toDateTime(intDiv(ifNull(received_ns, 4102444800000000000), 1000000000), 'UTC') AS received,
  ending.1 > 0 AS ended, [ending.3] AS result, [run.job.2] AS job, [run.service.2] AS app, [run.equipment.2] AS equipment,
  [run.recipe.2] AS recipe, [run.product.2] AS product
FROM run;

-- Traces by what few of their runs have: `field` is run_id, lot or substrate. Behind a trace its runs are found by their key.
CREATE TABLE IF NOT EXISTS run_word (
  field LowCardinality(String) CODEC(ZSTD(1)),
  word String CODEC(ZSTD(1)),
  trace_id FixedString(16) CODEC(NONE),
  received DateTime('UTC') CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(received) -- shard: cityHash64(trace_id)
ORDER BY (field, word, trace_id)
TTL received + INTERVAL {run_days} DAY
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, index_granularity = 1024;

CREATE MATERIALIZED VIEW IF NOT EXISTS run_word_of_run TO run_word AS
SELECT
  named.1 AS field, named.2 AS word, trace_id,
  toDateTime(intDiv(ifNull(received_ns, 4102444800000000000), 1000000000), 'UTC') AS received
FROM run
ARRAY JOIN arrayConcat(
  if(run_id.1 > 0, [('run_id', run_id.2)], []), arrayMap(lot -> ('lot', lot), lot_ids.2),
  arrayMap(substrate -> ('substrate', substrate), substrate_ids.2)
) AS named;

-- Which runs a call of a writer was about; written when the call's runs are stored, stamped by the server's clock.
CREATE TABLE IF NOT EXISTS run_change (
  changed_us UInt64 DEFAULT toUInt64(toUnixTimestamp64Micro(now64(6))) CODEC(Delta(8), ZSTD(1)),
  call FixedString(6) CODEC(ZSTD(1)),
  trace_id FixedString(16) CODEC(NONE),
  span_id FixedString(8) CODEC(NONE),
  site LowCardinality(String) CODEC(ZSTD(1))
)
ENGINE = MergeTree() -- shard: cityHash64(trace_id)
ORDER BY (changed_us, call)
TTL toDateTime(intDiv(changed_us, 1000000), 'UTC') + INTERVAL 2 DAY
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS process (
  key FixedString(16),
  site SimpleAggregateFunction(max, String),
  host SimpleAggregateFunction(max, String),
  pid SimpleAggregateFunction(max, Int64),
  instance_id SimpleAggregateFunction(max, String),
  beat_ns SimpleAggregateFunction(max, Int64),
  interval_s SimpleAggregateFunction(max, Nullable(Float64)),
  seen SimpleAggregateFunction(max, DateTime('UTC'))
)
ENGINE = AggregatingMergeTree() -- shard: cityHash64(key)
ORDER BY key
TTL seen + INTERVAL {run_days} DAY
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS feed (
  site String,
  feed String,
  watermark_ns SimpleAggregateFunction(max, Int64),
  received_ns SimpleAggregateFunction(max, Int64),
  skew_ns SimpleAggregateFunction(min, Int64)
)
ENGINE = AggregatingMergeTree() -- shard: cityHash64(site, feed)
ORDER BY (site, feed)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS app (
  site String,
  service String,
  -- When its newest row was received, and the version that sent it (bit 0 of `has`: it has one).
  newest SimpleAggregateFunction(max, Tuple(received_ns Int64, version String, has UInt8))
)
ENGINE = AggregatingMergeTree() -- shard: cityHash64(site, service)
ORDER BY (site, service)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS site (
  name String
)
ENGINE = ReplacingMergeTree() -- shard: cityHash64(name)
ORDER BY name
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- A letter that was forgotten and comes again is one of the next generation.
CREATE TABLE IF NOT EXISTS dead_letter (
  key FixedString(32),
  generation UInt32,
  site SimpleAggregateFunction(max, String),
  signal SimpleAggregateFunction(max, String),
  reason SimpleAggregateFunction(max, String),
  sample SimpleAggregateFunction(max, String) CODEC(ZSTD(1)),
  received_ns SimpleAggregateFunction(min, Int64),
  retries SimpleAggregateFunction(sum, UInt64),
  retried SimpleAggregateFunction(max, Tuple(retried_ns Int64, answer String)),
  forgotten SimpleAggregateFunction(max, UInt8)
)
ENGINE = AggregatingMergeTree() -- shard: cityHash64(key)
ORDER BY (key, generation)
TTL toDateTime(least(intDiv(received_ns, 1000000000), 4102444800), 'UTC') + INTERVAL {letter_days} DAY
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- When an item that says no time of its own arrived: what each call claimed. Of the claims that stand the one with the first stamp of
-- a server counts. `state`: 0 claimed, 1 confirmed, 2 withdrawn.
CREATE TABLE IF NOT EXISTS first_arrival (
  digest FixedString(32) CODEC(NONE),
  call FixedString(6) CODEC(ZSTD(1)),
  arrived_ns Int64 CODEC(Delta(8), ZSTD(1)),
  state SimpleAggregateFunction(max, UInt8),
  claimed_us SimpleAggregateFunction(min, UInt64) DEFAULT toUInt64(toUnixTimestamp64Micro(now64(6))) CODEC(Delta(8), ZSTD(1))
)
ENGINE = AggregatingMergeTree() -- shard: cityHash64(digest)
ORDER BY (digest, call, arrived_ns)
TTL toDateTime(intDiv(claimed_us, 1000000), 'UTC') + INTERVAL {arrival_seconds} SECOND
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- The limits of `runs.state.Limits` that are not as they are by default, and in words the `time_zone` of the rollups.
CREATE TABLE IF NOT EXISTS setting (
  name String,
  value Float64,
  words String,
  changed DateTime64(6, 'UTC') DEFAULT now64(6)
)
ENGINE = ReplacingMergeTree(changed) -- shard: cityHash64(name)
ORDER BY name
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
