-- The log of maintenance: written by wafer_data.log_step, read through wafer.maintenance_status and wafer.maintenance_log.

CREATE OR REPLACE FUNCTION wafer_data.log_step(step text, outcome text, report text, began timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  ended constant timestamptz := clock_timestamp();
BEGIN
  UPDATE wafer_data.maintenance_log l
  SET ended_time = ended, took_s = extract(epoch FROM ended - log_step.began), rounds = l.rounds + 1
  WHERE l.log_id = (SELECT max(m.log_id) FROM wafer_data.maintenance_log m WHERE m.step = log_step.step)
    AND l.outcome = log_step.outcome AND l.outcome <> 'done' AND l.report = log_step.report;
  IF NOT FOUND THEN
    INSERT INTO wafer_data.maintenance_log (step, outcome, report, began_time, ended_time, took_s)
    VALUES (log_step.step, log_step.outcome, log_step.report, log_step.began, ended, extract(epoch FROM ended - log_step.began));
  END IF;
END
$$;

-- Of each step: when it last succeeded, whether its last round failed, and whether its last success is too long ago (`late`): longer than
-- whoever maintains has noted that it may be, else an hour. Silence fails nothing, so that it must be told apart.
CREATE OR REPLACE VIEW wafer.maintenance_status AS
SELECT
  s.*,
  coalesce(s.last_success_time, '-infinity') < clock_timestamp() - make_interval(secs => coalesce(
    (SELECT p.value::double precision FROM wafer_data.setting p WHERE p.name = 'patience_s ' || s.step), 3600
  )) AS late
FROM (
SELECT
  l.step, l.outcome = 'failed' AS failing, l.outcome AS last_outcome, l.report AS last_report, l.ended_time AS last_time, l.took_s AS last_took_s,
  CASE l.outcome WHEN 'failed' THEN l.rounds ELSE 0 END AS failed_rounds,
  CASE WHEN l.outcome <> 'failed' THEN l.ended_time ELSE (
    SELECT g.ended_time FROM wafer_data.maintenance_log g
    WHERE g.step = l.step AND g.outcome <> 'failed' ORDER BY g.log_id DESC LIMIT 1
  ) END AS last_success_time
FROM (SELECT step, max(log_id) AS log_id FROM wafer_data.maintenance_log GROUP BY step) newest
JOIN wafer_data.maintenance_log l USING (step, log_id)
) s;

-- The newest 1000 entries.
CREATE OR REPLACE VIEW wafer.maintenance_log AS
SELECT ended_time AS time, step, outcome, report, began_time, took_s, rounds
FROM wafer_data.maintenance_log ORDER BY log_id DESC LIMIT 1000;
