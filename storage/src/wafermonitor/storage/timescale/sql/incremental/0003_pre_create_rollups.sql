-- Rollups of ended runs, kept long after the runs themselves. Made and changed by wafer_data.roll_up() only (idempotent/rollups.sql).
--
-- One row for each bucket, job and site (dimension 0), and for each of its apps (1), equipments (2), recipes (3) and products (4):
-- `value` names which. A run is counted in the bucket in which it started, by what it is known to be now; a run whose start is not
-- known is in none. Sums are numeric: they are also taken away from, and must not drift or overflow.

CREATE TABLE wafer_data.job_hourly (
  bucket           timestamptz NOT NULL,
  dimension        smallint NOT NULL,
  site_id          smallint NOT NULL,
  job              text COLLATE "C" NOT NULL, -- '' when the job is not known
  value            text COLLATE "C" NOT NULL, -- '' for dimension 0
  ended            bigint NOT NULL,
  success          bigint NOT NULL,
  failure          bigint NOT NULL,
  error            bigint NOT NULL,
  timeout          bigint NOT NULL,
  cancellation     bigint NOT NULL,
  skip             bigint NOT NULL,
  subjobs          bigint NOT NULL,
  duration_count   bigint NOT NULL,
  duration_ns      numeric,
  duration_min_ns  bigint,
  duration_max_ns  bigint,
  cpu_count        bigint NOT NULL,
  cpu_ns           numeric,
  cpu_min_ns       bigint,
  cpu_max_ns       bigint,
  memory_count     bigint NOT NULL,
  memory_bytes     numeric,
  memory_min_bytes bigint,
  memory_max_bytes bigint,
  queue_count      bigint NOT NULL,
  queue_ns         numeric,
  queue_min_ns     bigint,
  queue_max_ns     bigint,
  durations        bigint[] NOT NULL, -- histogram: wafer_data.histogram_entry
  PRIMARY KEY (dimension, bucket, job, value, site_id)
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.1);
CREATE INDEX job_hourly_job ON wafer_data.job_hourly (job, dimension, value, bucket);
CREATE TABLE wafer_data.job_daily (LIKE wafer_data.job_hourly INCLUDING ALL);
CREATE TABLE wafer_data.job_weekly (LIKE wafer_data.job_hourly INCLUDING ALL);
CREATE TABLE wafer_data.job_monthly (LIKE wafer_data.job_hourly INCLUDING ALL);

-- How far the rollups are. One row.
CREATE TABLE wafer_data.rollup_state (
  only_row           boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  snapshot           pg_snapshot,                      -- what is rolled up is what this snapshot shows; null: nothing yet
  taken_at           timestamptz,                      -- when that was
  system_identifier  bigint,                           -- of the server whose transactions the snapshot counts
  time_zone          text,                             -- of the buckets
  built_from         timestamptz NOT NULL DEFAULT 'infinity',  -- hours before this are still to be built from their runs
  horizon            timestamptz NOT NULL DEFAULT '-infinity'  -- of hours before this the runs are, or may be, gone: they stay as they are
) WITH (fillfactor = 20);
INSERT INTO wafer_data.rollup_state DEFAULT VALUES;

-- What an ended run was before it was changed or deleted, until the rollups have taken it back.
CREATE TABLE wafer_data.run_replaced (
  replaced_id   bigint GENERATED ALWAYS AS IDENTITY,
  changed_xid   xid8 NOT NULL,
  trace_id      uuid NOT NULL,
  span_id       bigint NOT NULL,
  site_id       smallint NOT NULL,
  start_time    timestamptz NOT NULL,
  job           text COLLATE "C",
  service       text COLLATE "C",
  equipment     text COLLATE "C",
  recipe        text COLLATE "C",
  product       text COLLATE "C",
  result        text COLLATE "C",
  subjob        boolean NOT NULL,
  duration_ns   bigint,
  cpu_ns        bigint,
  memory_bytes  bigint,
  queue_ns      bigint
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

INSERT INTO wafer_data.setting (name, value, description) VALUES
  ('time_zone', 'UTC', 'of days, weeks and months in rollups; a name that PostgreSQL knows, such as Asia/Kolkata');
