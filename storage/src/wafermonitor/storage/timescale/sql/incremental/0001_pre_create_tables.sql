-- Tables of the store (design: exactly once, at COPY speed; what people search lives on runs).
--
-- Times of telemetry: `<x>_time timestamptz` holds whole microseconds, `<x>_ns smallint` the 0…999 ns that remain.
-- Times of runs, processes and feeds: `<x>_unix_ns bigint`, ns since 1970, because merging takes the least or greatest of one number.
-- Texts that are merged or ordered use COLLATE "C", so that the server orders them as Python does.
-- json, not jsonb: parsing would cost more than all the rest of the row; what is stored always casts to jsonb.
--
-- `schema_migration` is made by the migrations runner before this file.
-- Partitions, made ahead: span, log_record and metric_point by day; run by calendar month (kept two years, and a run is looked up by its
-- ids in every partition). A row outside [oldest hot day, newest prepared day] goes to the *_late table; a DEFAULT partition of
-- span, log_record or metric_point that holds a row is an alarm. run_default is different: it also takes runs whose start is
-- not known or lies outside every month, and whoever adds a month moves its rows out first (wafer_data.add_partition does).

CREATE TABLE wafer_data.site (
  site_id  smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name     text COLLATE "C" NOT NULL UNIQUE
);

CREATE TABLE wafer_data.app (
  app_id             integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  site_id            smallint NOT NULL,
  service            text COLLATE "C" NOT NULL,
  service_version    text COLLATE "C",
  last_seen_unix_ns  bigint NOT NULL DEFAULT 0,
  UNIQUE (service, site_id)
) WITH (fillfactor = 50);

CREATE TABLE wafer_data.scope (
  scope_id    integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  key         bytea NOT NULL UNIQUE,
  name        text COLLATE "C" NOT NULL,
  version     text COLLATE "C" NOT NULL,
  attributes  json NOT NULL
);

CREATE TABLE wafer_data.resource (
  resource_id      integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  key              bytea NOT NULL UNIQUE,
  site_id          smallint NOT NULL,
  feed_id          text COLLATE "C",
  service          text COLLATE "C" NOT NULL,
  service_version  text COLLATE "C",
  process_key      uuid,
  attributes       json NOT NULL
);
CREATE INDEX resource_process ON wafer_data.resource (process_key) WHERE process_key IS NOT NULL;
CREATE INDEX resource_service ON wafer_data.resource (service);

CREATE TABLE wafer_data.metric_series (
  series_id    integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  key          bytea NOT NULL UNIQUE,
  resource_id  integer NOT NULL,
  scope_id     integer NOT NULL,
  name         text COLLATE "C" NOT NULL,
  unit         text COLLATE "C" NOT NULL,
  type         text COLLATE "C" NOT NULL,
  temporality  smallint NOT NULL,
  monotonic    boolean NOT NULL,
  attributes   json NOT NULL
);
CREATE INDEX metric_series_resource ON wafer_data.metric_series (resource_id, name);

CREATE TABLE wafer_data.span (
  trace_id            uuid NOT NULL,
  start_time          timestamptz NOT NULL,
  duration_ns         bigint NOT NULL,
  span_id             bigint NOT NULL,
  parent_span_id      bigint,
  received_time       timestamptz NOT NULL,
  flags               bigint NOT NULL,
  app_id              integer NOT NULL,
  scope_id            integer NOT NULL,
  resource_id         integer NOT NULL,
  dropped_attributes  bigint NOT NULL,
  dropped_events      bigint NOT NULL,
  dropped_links       bigint NOT NULL,
  site_id             smallint NOT NULL,
  start_ns            smallint NOT NULL,
  received_ns         smallint NOT NULL,
  kind                smallint NOT NULL,
  status              smallint NOT NULL,
  name                text COLLATE "C" NOT NULL,
  status_message      text COLLATE "C" NOT NULL,
  trace_state         text COLLATE "C" NOT NULL,
  attributes          json NOT NULL,
  events              json,
  links               json
) PARTITION BY RANGE (start_time);
-- Dedupe and trace lookup are one index. start_ns makes the key exact and fills what alignment would waste.
CREATE UNIQUE INDEX span_key ON wafer_data.span (trace_id, span_id, start_time, site_id, start_ns);
-- Spans are searched by their service at the root only: one entry for each trace.
CREATE INDEX span_root ON wafer_data.span (app_id, start_time) WHERE parent_span_id IS NULL;
CREATE TABLE wafer_data.span_default PARTITION OF wafer_data.span DEFAULT;
CREATE TABLE wafer_data.span_late (LIKE wafer_data.span INCLUDING ALL);

CREATE TABLE wafer_data.log_record (
  time                timestamptz NOT NULL,
  observed_time       timestamptz NOT NULL,
  received_time       timestamptz NOT NULL,
  trace_id            uuid,
  span_id             bigint,
  flags               bigint NOT NULL,
  dropped_attributes  bigint NOT NULL,
  resource_id         integer NOT NULL,
  scope_id            integer NOT NULL,
  site_id             smallint NOT NULL,
  time_ns             smallint NOT NULL,
  observed_ns         smallint NOT NULL,
  received_ns         smallint NOT NULL,
  severity            smallint NOT NULL,
  digest              bytea NOT NULL,
  severity_text       text COLLATE "C" NOT NULL,
  event_name          text COLLATE "C" NOT NULL,
  body                json,
  attributes          json NOT NULL
) PARTITION BY RANGE (time);
CREATE UNIQUE INDEX log_record_key ON wafer_data.log_record (time, digest);
CREATE INDEX log_record_trace ON wafer_data.log_record (trace_id, span_id, time) WHERE trace_id IS NOT NULL;
CREATE TABLE wafer_data.log_record_default PARTITION OF wafer_data.log_record DEFAULT;
CREATE TABLE wafer_data.log_late (LIKE wafer_data.log_record INCLUDING ALL);

CREATE TABLE wafer_data.metric_point (
  time             timestamptz NOT NULL,
  start_time       timestamptz,
  received_time    timestamptz NOT NULL,
  value            double precision,
  count            bigint,
  sum              double precision,
  min              double precision,
  max              double precision,
  flags            bigint NOT NULL,
  series_id        integer NOT NULL,
  time_ns          smallint NOT NULL,
  start_ns         smallint,
  received_ns      smallint NOT NULL,
  bounds           double precision[],
  buckets          bigint[],
  quantile_values  double precision[]
) PARTITION BY RANGE (time);
CREATE UNIQUE INDEX metric_point_key ON wafer_data.metric_point (series_id, time, time_ns);
CREATE TABLE wafer_data.metric_point_default PARTITION OF wafer_data.metric_point DEFAULT;
CREATE TABLE wafer_data.metric_late (LIKE wafer_data.metric_point INCLUDING ALL);

CREATE TABLE wafer_data.run (
  trace_id              uuid NOT NULL,
  span_id               bigint NOT NULL,
  site_id               smallint NOT NULL,
  end_rank              smallint NOT NULL DEFAULT 0,
  final_fields          bigint NOT NULL DEFAULT 0,
  changed_xid           xid8 NOT NULL DEFAULT pg_current_xact_id(),
  start_time            timestamptz NOT NULL DEFAULT '-infinity', -- -infinity: not known (start_unix_ns is null)
  start_unix_ns         bigint,
  end_unix_ns           bigint,
  duration_ns           bigint GENERATED ALWAYS AS (end_unix_ns - start_unix_ns) STORED,
  last_sign_unix_ns     bigint,
  received_unix_ns      bigint,
  nominal_unix_ns       bigint,
  deadline_unix_ns      bigint,
  expected_duration_s   double precision,
  heartbeat_interval_s  double precision,
  cpu_s                 double precision,
  memory_bytes          bigint,
  attempt               bigint,
  parent_span_id        bigint,
  process_key           uuid,
  inferred              boolean,
  job                   text COLLATE "C",
  run_id                text COLLATE "C",
  parent_run_id         text COLLATE "C",
  feed_id               text COLLATE "C",
  service               text COLLATE "C",
  service_version       text COLLATE "C",
  trigger               text COLLATE "C",
  owner                 text COLLATE "C",
  equipment             text COLLATE "C",
  recipe                text COLLATE "C",
  product               text COLLATE "C",
  lot_ids               text[] COLLATE "C",
  substrate_ids         text[] COLLATE "C",
  result                text COLLATE "C",
  error_type            text COLLATE "C",
  progress_unix_ns      bigint,
  progress_ratio        double precision,
  progress_completed    double precision,
  progress_total        double precision,
  progress_unit         text COLLATE "C",
  progress_stage        text COLLATE "C",
  progress_message      text COLLATE "C",
  attributes            json
) PARTITION BY RANGE (start_time);
CREATE TABLE wafer_data.run_default PARTITION OF wafer_data.run DEFAULT;
-- Runs not ended. Its key is also the lock under which a run is merged, wherever its row is. Small and rewritten with every sign
-- of life: room for new versions beside the old ones (no index holds what a sign changes), and early vacuum.
CREATE TABLE wafer_data.run_open (LIKE wafer_data.run INCLUDING DEFAULTS INCLUDING GENERATED)
  WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500);
CREATE UNIQUE INDEX run_open_key ON wafer_data.run_open (trace_id, span_id, site_id);
-- Ended runs that began far from when they were last merged, so that nobody must look for every run in every month (see merge.sql).
CREATE TABLE wafer_data.run_far (
  trace_id    uuid NOT NULL,
  span_id     bigint NOT NULL,
  site_id     smallint NOT NULL,
  start_time  timestamptz NOT NULL,
  PRIMARY KEY (trace_id, span_id, site_id)
);

CREATE UNIQUE INDEX run_key ON wafer_data.run (trace_id, span_id, site_id, start_time);
-- Each of these costs about 2 µs for every run that ends; they are what the read API needs to answer fast at half a million runs.
-- Read backwards: newest rows go to the right end of an index (or of each name's part of it), where pages fill up. The site beside the
-- time: the runs of a site with few are found in the index alone. No index begins with the site: the planner takes one while
-- the tables are still empty, and then reads every run of the site for each key.
CREATE INDEX run_start ON wafer_data.run (start_time, site_id);
CREATE INDEX run_bad ON wafer_data.run (start_time) WHERE result IN ('failure', 'error', 'timeout');
-- With the site: of a job that many sites share, the runs of one are found in the index.
CREATE INDEX run_job ON wafer_data.run (job, start_time, site_id);
CREATE INDEX run_service ON wafer_data.run (service, start_time);
CREATE INDEX run_equipment ON wafer_data.run (equipment, start_time) WHERE equipment IS NOT NULL;
CREATE INDEX run_recipe ON wafer_data.run (recipe, start_time) WHERE recipe IS NOT NULL;
CREATE INDEX run_product ON wafer_data.run (product, start_time) WHERE product IS NOT NULL;
-- No hash index: it walks through all runs of one id to add another, and a program may call each of its runs `nightly`.
CREATE INDEX run_run_id ON wafer_data.run (run_id);
-- One index for both, and entries gathered before they are sorted in: a lot has many runs.
CREATE INDEX run_material ON wafer_data.run USING gin (lot_ids, substrate_ids) WITH (fastupdate = on, gin_pending_list_limit = 512);
CREATE INDEX run_changed ON wafer_data.run (changed_xid);
-- Runs that ended in a stretch of time are counted each minute. They stand in the order in which they ended, so which pages hold them
-- is known from the least and the greatest end of each sixteen: a run costs next to nothing to write.
CREATE INDEX run_end ON wafer_data.run USING brin (end_unix_ns) WITH (pages_per_range = 16, autosummarize = on);

CREATE TABLE wafer_data.process (
  process_key   uuid PRIMARY KEY,
  site_id       smallint NOT NULL,
  pid           bigint NOT NULL,
  host          text COLLATE "C" NOT NULL,
  instance_id   text COLLATE "C" NOT NULL,
  beat_unix_ns  bigint NOT NULL,
  interval_s    double precision
) WITH (fillfactor = 50);

CREATE TABLE wafer_data.feed (
  site_id            smallint NOT NULL,
  feed_id            text COLLATE "C" NOT NULL,
  watermark_unix_ns  bigint,
  received_unix_ns   bigint,
  skew_ns            bigint NOT NULL,
  PRIMARY KEY (site_id, feed_id)
) WITH (fillfactor = 50);

CREATE TABLE wafer_data.setting (
  name         text COLLATE "C" PRIMARY KEY,
  value        text NOT NULL,
  description  text NOT NULL
);
INSERT INTO wafer_data.setting (name, value, description) VALUES
  ('margin_s', '15', 'given to a feed''s watermark before silence is counted'),
  ('behind_s', '30', 'how far a watermark may lag before nobody can know'),
  ('loss_floor_s', '300', 'the shortest silence that counts as loss'),
  ('close_after_s', '86400', 'a run lost for this long is counted as ended'),
  ('dark_s', '86400', 'a feed silent for this long is given up'),
  ('silent_intervals', '3', 'heartbeat intervals without a sign until a run is silent'),
  ('lost_intervals', '10', 'heartbeat intervals without a sign until a run is lost');

CREATE TABLE wafer_data.dead_letter (
  key               bytea PRIMARY KEY,
  site_id           smallint NOT NULL,
  signal            text COLLATE "C" NOT NULL,
  reason            text NOT NULL,
  sample            bytea NOT NULL,
  received_unix_ns  bigint NOT NULL,
  -- What became of it when it was sent again.
  retries           integer NOT NULL DEFAULT 0,
  retried_unix_ns   bigint,
  answer            text
);
-- The order in which they are listed.
CREATE INDEX dead_letter_received ON wafer_data.dead_letter (received_unix_ns DESC, key);
