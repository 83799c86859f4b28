-- What alerting keeps: what is expected, what became of it, alerts, who was told. Sites, jobs and feeds by their names: what is expected
-- of a site may be expected before it has sent anything. Times are ns since 1970 by the clock of this server.

CREATE TABLE wafer_data.expectation (
  name             text COLLATE "C" PRIMARY KEY,
  site             text COLLATE "C",
  job              text COLLATE "C" NOT NULL,
  origin           text COLLATE "C" NOT NULL CHECK (origin IN ('declared', 'api', 'proposed')),
  spec             json NOT NULL,
  since_unix_ns    bigint NOT NULL,
  watched_unix_ns  bigint NOT NULL,
  changed_unix_ns  bigint NOT NULL
) WITH (fillfactor = 70);

CREATE TABLE wafer_data.expected_run (
  nominal_unix_ns  bigint NOT NULL,
  opens_unix_ns    bigint NOT NULL,
  late_unix_ns     bigint NOT NULL,
  missed_unix_ns   bigint NOT NULL,
  start_unix_ns    bigint,
  changed_unix_ns  bigint NOT NULL,
  run_span_id      bigint,
  run_trace_id     uuid,
  settled          boolean NOT NULL,
  state            text COLLATE "C" NOT NULL,
  expectation      text COLLATE "C" NOT NULL,
  subject          text COLLATE "C" NOT NULL,
  site             text COLLATE "C",
  job              text COLLATE "C" NOT NULL,
  run_site         text COLLATE "C",
  PRIMARY KEY (expectation, nominal_unix_ns, subject)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX expected_run_unsettled ON wafer_data.expected_run (expectation, nominal_unix_ns, subject) WHERE NOT settled;
CREATE INDEX expected_run_nominal ON wafer_data.expected_run (nominal_unix_ns, expectation);
CREATE INDEX expected_run_job ON wafer_data.expected_run (job, nominal_unix_ns);
CREATE INDEX expected_run_run ON wafer_data.expected_run (run_trace_id) WHERE run_trace_id IS NOT NULL;

CREATE TABLE wafer_data.alert (
  alert_id              text COLLATE "C" PRIMARY KEY,
  fingerprint           text COLLATE "C" NOT NULL,
  opened_unix_ns        bigint NOT NULL,
  since_unix_ns         bigint NOT NULL,
  seen_unix_ns          bigint NOT NULL,
  resolved_unix_ns      bigint,
  acknowledged_unix_ns  bigint,
  changed_xid           xid8 NOT NULL DEFAULT pg_current_xact_id(),
  run_span_id           bigint,
  run_trace_id          uuid,
  severity              smallint NOT NULL,
  rule                  text COLLATE "C" NOT NULL,
  site                  text COLLATE "C",
  job                   text COLLATE "C",
  run_site              text COLLATE "C",
  feed                  text COLLATE "C",
  detail                text COLLATE "C" NOT NULL,
  summary               text NOT NULL,
  evidence              json NOT NULL,
  cause                 text,
  runbook               text,
  owner                 text COLLATE "C",
  acknowledged_by       text,
  note                  text
) WITH (fillfactor = 70);
-- What makes an alert one: nobody can open it twice, whatever two evaluators believe.
CREATE UNIQUE INDEX alert_open ON wafer_data.alert (fingerprint) WHERE resolved_unix_ns IS NULL;
CREATE INDEX alert_opened ON wafer_data.alert (opened_unix_ns, alert_id);
CREATE INDEX alert_job ON wafer_data.alert (job, opened_unix_ns) WHERE job IS NOT NULL;
CREATE INDEX alert_run ON wafer_data.alert (run_trace_id) WHERE run_trace_id IS NOT NULL;
CREATE INDEX alert_changed ON wafer_data.alert (changed_xid);

CREATE TABLE wafer_data.delivery (
  delivery_id           text COLLATE "C" PRIMARY KEY,
  created_unix_ns       bigint NOT NULL,
  due_unix_ns           bigint NOT NULL,
  leased_until_unix_ns  bigint,
  settled_unix_ns       bigint,
  attempts              integer NOT NULL,
  state                 text COLLATE "C" NOT NULL CHECK (state IN ('waiting', 'sent', 'dropped')),
  kind                  text COLLATE "C" NOT NULL,
  channel               text COLLATE "C" NOT NULL,
  group_key             text COLLATE "C" NOT NULL,
  alerts                text[] COLLATE "C" NOT NULL,
  answer                text
) WITH (fillfactor = 70);
CREATE INDEX delivery_waiting ON wafer_data.delivery (created_unix_ns, delivery_id) WHERE state = 'waiting';
CREATE INDEX delivery_created ON wafer_data.delivery (created_unix_ns);
CREATE INDEX delivery_alerts ON wafer_data.delivery USING gin (alerts);

CREATE TABLE wafer_data.silence (
  silence_id       text COLLATE "C" PRIMARY KEY,
  created_unix_ns  bigint NOT NULL,
  until_unix_ns    bigint NOT NULL,
  site             text COLLATE "C",
  job              text COLLATE "C",
  rule             text COLLATE "C",
  who              text NOT NULL,
  why              text NOT NULL
);

CREATE TABLE wafer_data.alerting_note (
  name  text COLLATE "C" PRIMARY KEY,
  text  text NOT NULL
) WITH (fillfactor = 50);

-- One row. `epoch` counts who led: what a leader stores is refused when another has begun to lead since.
CREATE TABLE wafer_data.alerting_leader (
  one              boolean PRIMARY KEY DEFAULT true CHECK (one),
  epoch            bigint NOT NULL DEFAULT 0,
  ticked_unix_ns   bigint
) WITH (fillfactor = 50);
INSERT INTO wafer_data.alerting_leader DEFAULT VALUES;
