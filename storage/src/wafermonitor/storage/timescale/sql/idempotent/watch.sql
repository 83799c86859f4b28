-- What should have happened, as people and reports read it, and the twin of the function that judges it.

-- Now by this server's clock, ns since 1970.
CREATE OR REPLACE FUNCTION wafer_data.now_ns() RETURNS bigint
LANGUAGE sql VOLATILE PARALLEL SAFE
RETURN (extract(epoch FROM clock_timestamp()) * 1000000000)::bigint;

-- The twin of `runs.expectations.known_until`, proven equal by test.
CREATE OR REPLACE FUNCTION wafer.known_until(feeds wafer_data.feed[], now_unix_ns bigint, limits wafer.limits) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
  SELECT coalesce(min(CASE
    -- A feed that has been dark for too long is given up: its watermark is now again.
    WHEN wafer.seconds(now_unix_ns - greatest(f.skew_ns, 0) - f.watermark_unix_ns) > limits.dark_s THEN now_unix_ns
    ELSE f.watermark_unix_ns + f.skew_ns
  END), now_unix_ns) - round(limits.margin_s * 1000000000)::bigint
  FROM (
    -- A clock that was ahead once is right again when its last beat did not come from the future, and took 5 s at most.
    SELECT u.watermark_unix_ns, CASE
      WHEN u.skew_ns < 0 AND u.received_unix_ns - u.watermark_unix_ns BETWEEN 1 AND 5000000000 THEN 0 ELSE u.skew_ns
    END AS skew_ns
    FROM unnest(feeds) u WHERE u.watermark_unix_ns IS NOT NULL
  ) f
);

-- The twin of `runs.expectations.state_known`, proven equal by test. `unheard_ns`: how long a run of the job may stay unheard of.
CREATE OR REPLACE FUNCTION wafer.expectation_state(
  late_unix_ns bigint, missed_unix_ns bigint, start_unix_ns bigint, known_unix_ns bigint, now_unix_ns bigint, limits wafer.limits,
  unheard_ns bigint DEFAULT 0
) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
  WHEN start_unix_ns IS NOT NULL THEN 'met'
  WHEN known_unix_ns - unheard_ns > missed_unix_ns THEN 'missed'
  WHEN known_unix_ns - unheard_ns > late_unix_ns THEN 'late'
  WHEN now_unix_ns > late_unix_ns AND wafer.seconds(now_unix_ns - known_unix_ns) > limits.margin_s + limits.behind_s THEN 'unknown'
  ELSE 'expected'
END;

-- Standing wishes for runs.
CREATE OR REPLACE VIEW wafer.expectations AS
SELECT
  name, site AS site_id, job, origin, spec, wafer.time_of(since_unix_ns) AS since_time, wafer.time_of(watched_unix_ns) AS watched_time,
  wafer.time_of(changed_unix_ns) AS changed_time
FROM wafer_data.expectation;

-- Every run that was or is expected, and what became of it when it was last judged.
CREATE OR REPLACE VIEW wafer.expected_runs AS
SELECT
  expectation, site AS site_id, job, subject, wafer.time_of(nominal_unix_ns) AS nominal_time, wafer.time_of(opens_unix_ns) AS opens_time,
  wafer.time_of(late_unix_ns) AS late_time, wafer.time_of(missed_unix_ns) AS missed_time, state, settled,
  wafer.time_of(start_unix_ns) AS start_time, wafer.seconds(start_unix_ns - nominal_unix_ns) AS after_nominal_s,
  replace(run_trace_id::text, '-', '') AS trace_id, encode(int8send(run_span_id), 'hex') AS span_id,
  wafer.time_of(changed_unix_ns) AS changed_time
FROM wafer_data.expected_run;

-- What was told, and what is so still.
CREATE OR REPLACE VIEW wafer.alerts AS
SELECT
  alert_id, rule, CASE severity WHEN 1 THEN 'info' WHEN 2 THEN 'warning' WHEN 3 THEN 'critical' END AS severity,
  resolved_unix_ns IS NULL AS is_open, site AS site_id, job, feed AS feed_id, replace(run_trace_id::text, '-', '') AS trace_id,
  encode(int8send(run_span_id), 'hex') AS span_id, detail, wafer.time_of(opened_unix_ns) AS opened_time,
  wafer.time_of(since_unix_ns) AS since_time, wafer.time_of(seen_unix_ns) AS seen_time, wafer.time_of(resolved_unix_ns) AS resolved_time,
  wafer.seconds(resolved_unix_ns - since_unix_ns) AS duration_s, summary, evidence, cause, runbook, owner,
  wafer.time_of(acknowledged_unix_ns) AS acknowledged_time, acknowledged_by, note
FROM wafer_data.alert;
