-- What readers ask: the limits, the state of a run, and every run with what is known of it.

-- The rows of `setting` by which states are judged, as one row.
CREATE OR REPLACE VIEW wafer.limits AS
SELECT
  max(value::double precision) FILTER (WHERE name = 'margin_s') AS margin_s,
  max(value::double precision) FILTER (WHERE name = 'behind_s') AS behind_s,
  max(value::double precision) FILTER (WHERE name = 'loss_floor_s') AS loss_floor_s,
  max(value::double precision) FILTER (WHERE name = 'close_after_s') AS close_after_s,
  max(value::double precision) FILTER (WHERE name = 'dark_s') AS dark_s,
  max(value::double precision) FILTER (WHERE name = 'silent_intervals') AS silent_intervals,
  max(value::double precision) FILTER (WHERE name = 'lost_intervals') AS lost_intervals
FROM wafer_data.setting
WHERE name IN ('margin_s', 'behind_s', 'loss_floor_s', 'close_after_s', 'dark_s', 'silent_intervals', 'lost_intervals');

-- Nanoseconds as seconds, rounded once, as Python divides integers: a product of exact decimals, then one conversion.
CREATE OR REPLACE FUNCTION wafer.seconds(ns bigint) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (ns::numeric * 0.000000001)::double precision;

-- Nanoseconds since 1970 as a time, cut to microseconds.
CREATE OR REPLACE FUNCTION wafer.time_of(unix_ns bigint) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN to_timestamp((unix_ns / 1000000000)::double precision)
  + make_interval(secs => ((unix_ns % 1000000000) / 1000)::double precision / 1000000);

-- The twin of `runs.state.run_state` and `close_due`, proven equal by test. `state` is the state; `lost_for_s` is how long a lost run has given no sign by its feed's clock, null in every other state.
CREATE OR REPLACE FUNCTION wafer.run_state(
  end_rank smallint, heartbeat_interval_s double precision, process_interval_s double precision, last_sign_unix_ns bigint,
  process_beat_unix_ns bigint, watermark_unix_ns bigint, received_unix_ns bigint, skew_ns bigint, now_unix_ns bigint,
  limits wafer.limits,
  OUT state text, OUT lost_for_s double precision
)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
  interval_s constant double precision := greatest(heartbeat_interval_s, process_interval_s);
  last_sign_ns constant bigint := greatest(last_sign_unix_ns, process_beat_unix_ns);
  -- Without a beat the watermark is now; a feed that has been dark for too long is given up, and its watermark is now again.
  -- By how much its clock is ahead, it is not dark.
  -- A clock that was ahead once is right again when its last beat did not come from the future, and took 5 s at most.
  feed_now_ns constant bigint := CASE
    WHEN watermark_unix_ns IS NULL
      OR (skew_ns < 0 AND received_unix_ns - watermark_unix_ns BETWEEN 1 AND 5000000000) THEN now_unix_ns
    ELSE now_unix_ns - skew_ns
  END;
  watermark_ns constant bigint := CASE
    WHEN watermark_unix_ns IS NULL OR wafer.seconds(least(feed_now_ns, now_unix_ns) - watermark_unix_ns) > limits.dark_s THEN feed_now_ns
    ELSE watermark_unix_ns
  END;
  age_s double precision;
BEGIN
  IF end_rank > 0 THEN
    state := 'ended';
  ELSIF interval_s IS NULL OR interval_s = 0 OR last_sign_ns IS NULL THEN
    state := 'running'; -- it announced no interval, so its silence says nothing
  ELSE
    age_s := wafer.seconds(watermark_ns - last_sign_ns) - limits.margin_s;
    IF age_s > greatest(limits.lost_intervals * interval_s, limits.loss_floor_s) THEN
      state := 'lost';
      lost_for_s := wafer.seconds(watermark_ns - last_sign_ns);
    ELSIF age_s > limits.silent_intervals * interval_s THEN
      state := 'silent';
    ELSIF wafer.seconds(feed_now_ns - last_sign_ns) > limits.silent_intervals * interval_s
      AND wafer.seconds(feed_now_ns - watermark_ns) > limits.behind_s THEN
      state := 'unknown';
    ELSE
      state := 'running';
    END IF;
  END IF;
END
$$;

-- The twin of `runs.state.overdue`.
CREATE OR REPLACE FUNCTION wafer.overdue(
  end_rank smallint, start_unix_ns bigint, expected_duration_s double precision, deadline_unix_ns bigint, now_unix_ns bigint
) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN end_rank = 0 AND (
  coalesce(now_unix_ns > deadline_unix_ns, false)
  OR coalesce(wafer.seconds(now_unix_ns - start_unix_ns) > expected_duration_s, false)
);

-- The twin of `runs.state.failing_rank`.
CREATE OR REPLACE FUNCTION wafer.failing_rank(state text, overdue boolean, result text) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE state
  WHEN 'lost' THEN 0 WHEN 'silent' THEN 1 WHEN 'unknown' THEN 2
  WHEN 'running' THEN CASE WHEN overdue THEN 3 ELSE 5 END
  ELSE CASE WHEN result IN ('failure', 'error', 'timeout') THEN 4 ELSE 6 END
END;

-- Every run once, wherever its row is: of a ghost (a run in both places) the ended row counts. Constant `is_open` lets the planner
-- leave out the place that a question cannot be about.
CREATE OR REPLACE VIEW wafer_data.known_run AS
SELECT
  true AS is_open,
  trace_id, span_id, site_id, end_rank, final_fields, changed_xid, start_time, start_unix_ns, end_unix_ns, duration_ns,
  last_sign_unix_ns, received_unix_ns, nominal_unix_ns, deadline_unix_ns, expected_duration_s, heartbeat_interval_s,
  cpu_s, memory_bytes, attempt, parent_span_id, process_key, inferred, job, run_id, parent_run_id, feed_id, service,
  service_version, trigger, owner, equipment, recipe, product, lot_ids, substrate_ids, result, error_type,
  progress_unix_ns, progress_ratio, progress_completed, progress_total, progress_unit, progress_stage, progress_message,
  attributes
FROM wafer_data.run_open o
WHERE o.end_rank = 0 AND NOT EXISTS (
  SELECT FROM wafer_data.run r
  WHERE (r.trace_id, r.span_id, r.site_id, r.start_time) = (o.trace_id, o.span_id, o.site_id, o.start_time)
)
UNION ALL
SELECT
  false,
  trace_id, span_id, site_id, end_rank, final_fields, changed_xid, start_time, start_unix_ns, end_unix_ns, duration_ns,
  last_sign_unix_ns, received_unix_ns, nominal_unix_ns, deadline_unix_ns, expected_duration_s, heartbeat_interval_s,
  cpu_s, memory_bytes, attempt, parent_span_id, process_key, inferred, job, run_id, parent_run_id, feed_id, service,
  service_version, trigger, owner, equipment, recipe, product, lot_ids, substrate_ids, result, error_type,
  progress_unix_ns, progress_ratio, progress_completed, progress_total, progress_unit, progress_stage, progress_message,
  attributes
FROM wafer_data.run;

-- Runs as people and reports read them, judged at this moment.
CREATE OR REPLACE VIEW wafer.job_run AS
SELECT
  s.name AS site_id, replace(r.trace_id::text, '-', '') AS trace_id, encode(int8send(r.span_id), 'hex') AS span_id,
  r.job, r.run_id, j.state, r.result, r.error_type,
  wafer.overdue(r.end_rank, r.start_unix_ns, r.expected_duration_s, r.deadline_unix_ns, n.now_ns) AS overdue, r.inferred,
  nullif(r.start_time, '-infinity') AS start_time, wafer.time_of(r.end_unix_ns) AS end_time,
  wafer.seconds(r.duration_ns) AS duration_s,
  wafer.time_of(greatest(r.last_sign_unix_ns, p.beat_unix_ns)) AS last_sign_time,
  greatest(r.heartbeat_interval_s, p.interval_s) AS heartbeat_interval_s,
  encode(int8send(r.parent_span_id), 'hex') AS parent_span_id, r.parent_run_id, r.feed_id, r.service, r.service_version,
  r.attempt, r.trigger, wafer.time_of(r.nominal_unix_ns) AS nominal_time, r.expected_duration_s,
  wafer.time_of(r.deadline_unix_ns) AS deadline_time, r.owner, r.equipment, r.recipe, r.product, r.lot_ids, r.substrate_ids,
  r.progress_ratio, r.progress_completed, r.progress_total, r.progress_unit, r.progress_stage, r.progress_message,
  r.cpu_s, r.memory_bytes, r.attributes
FROM wafer_data.known_run r
JOIN wafer_data.site s USING (site_id)
LEFT JOIN wafer_data.process p USING (process_key)
LEFT JOIN wafer_data.feed f ON f.site_id = r.site_id AND f.feed_id = r.feed_id
CROSS JOIN LATERAL (SELECT (extract(epoch FROM clock_timestamp()) * 1000000000)::bigint AS now_ns) n
CROSS JOIN LATERAL wafer.run_state(
  r.end_rank, r.heartbeat_interval_s, p.interval_s, r.last_sign_unix_ns, p.beat_unix_ns, f.watermark_unix_ns,
  f.received_unix_ns, f.skew_ns,
  n.now_ns, (SELECT l FROM wafer.limits l)
) j;

-- A run lost for `close_after_s` is counted as ended, by a flag that any later sign clears again. Returns how many changed. Judged are
-- runs that can have become lost, or lost no more: that announced an interval and are not flagged, and those of processes that beat of
-- late. Whatever else changes the answer (limits, clocks of feeds) is seen within an hour, when all of them are judged. So runs that never
-- tell their end, of which there may be many, are not read each time.
CREATE OR REPLACE FUNCTION wafer_data.set_inferred(now_unix_ns bigint) RETURNS bigint
LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan AS $$
DECLARE
  close_after_s constant double precision := (SELECT l.close_after_s FROM wafer.limits l);
  beaten_unix_ns constant bigint := now_unix_ns - (3e9 * greatest(close_after_s, 86400))::bigint;
  judged_unix_ns constant bigint := (SELECT value::bigint FROM wafer_data.setting WHERE name = 'judged_unix_ns');
  everything constant boolean := coalesce(now_unix_ns NOT BETWEEN judged_unix_ns AND judged_unix_ns + 3600000000000, true);
  changed bigint;
BEGIN
  WITH chosen AS (
    SELECT o.ctid AS place, o.* FROM wafer_data.run_open o WHERE everything
    UNION ALL
    SELECT o.ctid, o.* FROM wafer_data.run_open o WHERE NOT everything AND o.heartbeat_interval_s > 0 AND o.inferred IS NOT TRUE
    UNION ALL
    SELECT o.ctid, o.*
    FROM wafer_data.process p JOIN wafer_data.run_open o ON o.process_key = p.process_key
    WHERE NOT everything AND p.interval_s > 0 AND p.beat_unix_ns > beaten_unix_ns AND (o.inferred OR (o.heartbeat_interval_s > 0) IS NOT TRUE)
  ), judged AS MATERIALIZED (
    SELECT c.place, coalesce(j.lost_for_s > close_after_s, false) AS close_due
    FROM chosen c
    LEFT JOIN wafer_data.process p ON p.process_key = c.process_key
    LEFT JOIN wafer_data.feed f ON f.site_id = c.site_id AND f.feed_id = c.feed_id
    CROSS JOIN LATERAL wafer.run_state(
      c.end_rank, c.heartbeat_interval_s, p.interval_s, c.last_sign_unix_ns, p.beat_unix_ns, f.watermark_unix_ns, f.received_unix_ns, f.skew_ns,
      now_unix_ns, (SELECT l FROM wafer.limits l)
    ) j
    WHERE c.end_rank = 0 AND c.inferred IS DISTINCT FROM coalesce(j.lost_for_s > close_after_s, false)
  ), locked AS (
    -- A row that a writer holds is judged again in the next round.
    SELECT o.ctid, j.close_due
    FROM judged j JOIN wafer_data.run_open o ON o.ctid = j.place
    WHERE o.inferred IS DISTINCT FROM j.close_due
    FOR UPDATE OF o SKIP LOCKED
  ), flagged AS (
    UPDATE wafer_data.run_open o SET inferred = l.close_due, changed_xid = pg_current_xact_id()
    FROM locked l WHERE o.ctid = l.ctid
    RETURNING 1
  )
  SELECT count(*) INTO changed FROM flagged;
  IF everything THEN
    INSERT INTO wafer_data.setting AS s (name, value, description)
    VALUES ('judged_unix_ns', now_unix_ns::text, 'when maintenance last judged every open run')
    ON CONFLICT (name) DO UPDATE SET value = excluded.value;
  END IF;
  RETURN changed;
END
$$;
