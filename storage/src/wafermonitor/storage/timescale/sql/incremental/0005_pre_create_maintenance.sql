-- What maintenance did, step by step. A row is one stretch of rounds with the same outcome: a step that finds nothing to do, or
-- fails in the same way, again and again, only moves the end of its last row.
CREATE TABLE wafer_data.maintenance_log (
  log_id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  step        text COLLATE "C" NOT NULL,
  outcome     text NOT NULL CHECK (outcome IN ('done', 'nothing', 'failed')),
  report      text NOT NULL, -- what was done, or why it failed
  began_time  timestamptz NOT NULL,
  ended_time  timestamptz NOT NULL,
  took_s      double precision NOT NULL, -- the last round of the stretch
  rounds      bigint NOT NULL DEFAULT 1
) WITH (fillfactor = 70);
CREATE INDEX maintenance_log_step ON wafer_data.maintenance_log (step, log_id);
