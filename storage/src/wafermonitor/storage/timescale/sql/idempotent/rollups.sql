-- Rollups of ended runs: what changed since the last time is added, and what it was before is taken away.
--
-- A version of a run was rolled up when the last snapshot shows it (`changed_xid`). So a new version is one that the snapshot of this
-- transaction shows and the last one did not; what a version replaced stands in run_replaced, by a trigger, in the transaction
-- that replaced it. Both are exact however writes and passes interleave, and the cost follows what changed, not what is stored.
-- Least and greatest cannot be taken back: when a run that held one changes, its hour is made anew from its runs. Runs that are
-- gone by retention are never asked for: nothing is made anew before the horizon.

-- ---- histogram of durations: sparse, mergeable, 18 buckets for each doubling ----
--
-- An entry is bucket * 2^40 + count, in the order of the buckets. Bucket k holds durations in (2^((k-1)/18), 2^(k/18)] ns, the first
-- one everything up to 1 ns. The middle that is answered for it is at most 1.93 % from each of them.

CREATE OR REPLACE FUNCTION wafer_data.histogram_bucket(ns bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN ns <= 1 THEN 0 ELSE ceil(ln(ns::double precision) * 25.968510736806735)::bigint END; -- 18 / ln 2

CREATE OR REPLACE FUNCTION wafer_data.histogram_entry(bucket bigint, count bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN (bucket << 40) + count;

-- Of an entry, whose count may be negative while it is a difference.
CREATE OR REPLACE FUNCTION wafer_data.entry_bucket(entry bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN (entry + 549755813888) >> 40;

CREATE OR REPLACE FUNCTION wafer_data.entry_count(entry bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN entry - (((entry + 549755813888) >> 40) << 40);

-- Both together, without buckets that are empty: the shorter one put into the longer one, entry by entry.
CREATE OR REPLACE FUNCTION wafer_data.add_histograms(one bigint[], other bigint[]) RETURNS bigint[]
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
  total bigint[] := CASE WHEN cardinality(one) < cardinality(other) THEN other ELSE one END;
  entry bigint;
  bucket bigint;
  place integer;
BEGIN
  FOREACH entry IN ARRAY CASE WHEN cardinality(one) < cardinality(other) THEN one ELSE other END LOOP
    bucket := (entry + 549755813888) >> 40;
    place := width_bucket((bucket << 40) + 549755813887, total); -- of the last entry up to this bucket
    IF place = 0 OR (total[place] + 549755813888) >> 40 <> bucket THEN
      total := total[:place] || entry || total[place + 1:];
    ELSIF entry + total[place] = bucket << 41 THEN
      total := total[:place - 1] || total[place + 1:];
    ELSE
      total[place] := total[place] + entry - (bucket << 40);
    END IF;
  END LOOP;
  RETURN total;
END
$$;

-- The duration in seconds that `share` (0 to 1) of the `total` runs in a histogram do not exceed, at most 2 % from the exact one; null
-- of none. Counted from the nearer end.
CREATE OR REPLACE FUNCTION wafer_data.percentile_of(durations bigint[], share double precision, total bigint) RETURNS double precision
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
  entries constant bigint[] := durations; -- unpacked once
  bucket bigint;
  left_over bigint := greatest(1, ceil(total * least(greatest(share, 0), 1)));
BEGIN
  IF total = 0 OR cardinality(entries) = 0 THEN
    RETURN NULL;
  ELSIF share > 0.5 THEN
    left_over := total - left_over;
    FOR place IN REVERSE cardinality(entries)..1 LOOP
      bucket := (entries[place] + 549755813888) >> 40;
      left_over := left_over - (entries[place] - (bucket << 40));
      EXIT WHEN left_over < 0;
    END LOOP;
  ELSE
    FOR place IN 1..cardinality(entries) LOOP
      bucket := (entries[place] + 549755813888) >> 40;
      left_over := left_over - (entries[place] - (bucket << 40));
      EXIT WHEN left_over <= 0;
    END LOOP;
  END IF;
  RETURN CASE bucket WHEN 0 THEN 0 ELSE 2 ^ (bucket / 18.0::double precision) * 9.807482905896975e-10 END; -- 2 / (1 + 2^(1/18)) ns
END
$$;

-- The same of any histogram, and of any sum of them (wafer.sum_durations).
CREATE OR REPLACE FUNCTION wafer.percentile(durations bigint[], share double precision) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN wafer_data.percentile_of(durations, share, (SELECT sum(wafer_data.entry_count(entry)) FROM unnest(durations) entry)::bigint);

CREATE OR REPLACE AGGREGATE wafer.sum_durations (bigint[]) (
  sfunc = wafer_data.add_histograms, stype = bigint[], combinefunc = wafer_data.add_histograms, parallel = safe
);

-- ---- time: hours, days, weeks (from Monday) and months of the store's time zone ----

CREATE OR REPLACE FUNCTION wafer.time_zone() RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN (SELECT value FROM wafer_data.setting WHERE name = 'time_zone');

-- A setting that cannot be used is refused where it is written: a bad one would stop every pass, and every view.
CREATE OR REPLACE FUNCTION wafer_data.check_setting() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  known text;
BEGIN
  IF TG_OP = 'DELETE' OR (TG_OP = 'UPDATE' AND new.name <> old.name) THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('the setting %s must stay: change its value', old.name);
  ELSIF new.name = 'time_zone' THEN
    SELECT z.name INTO known FROM pg_timezone_names z WHERE lower(z.name) = lower(new.value) ORDER BY z.name LIMIT 1;
    IF known IS NULL THEN
      RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('%L is no time zone that this server knows', new.value),
        HINT = 'Names such as Asia/Kolkata, not offsets or abbreviations: SELECT name FROM pg_timezone_names.';
    END IF;
    new.value := known;
  ELSIF NOT coalesce(new.value ~ '^[0-9]+([.][0-9]+)?(e[0-9]+)?$', false) THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('%L is no number for the setting %s', new.value, new.name);
  END IF;
  RETURN new;
END
$$;
CREATE OR REPLACE TRIGGER check_new BEFORE INSERT OR UPDATE ON wafer_data.setting
  FOR EACH ROW WHEN (new.name IN ('time_zone', 'margin_s', 'behind_s', 'loss_floor_s', 'close_after_s', 'dark_s', 'silent_intervals', 'lost_intervals'))
  EXECUTE FUNCTION wafer_data.check_setting();
CREATE OR REPLACE TRIGGER check_old BEFORE DELETE OR UPDATE OF name ON wafer_data.setting
  FOR EACH ROW WHEN (old.name IN ('time_zone', 'margin_s', 'behind_s', 'loss_floor_s', 'close_after_s', 'dark_s', 'silent_intervals', 'lost_intervals'))
  EXECUTE FUNCTION wafer_data.check_setting();

-- ---- what is counted of a run; a value that cannot be is left out ----

-- More than thirty years of CPU are none.
CREATE OR REPLACE FUNCTION wafer_data.cpu_ns(cpu_s double precision) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN cpu_s BETWEEN 0 AND 1e9 THEN (cpu_s * 1e9)::bigint END;

-- From the scheduled start to the start, both in [1970, 2262): a difference that overflows would stop all.
CREATE OR REPLACE FUNCTION wafer_data.queue_ns(start_unix_ns bigint, nominal_unix_ns bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN start_unix_ns > 0 AND nominal_unix_ns > 0 THEN start_unix_ns - nominal_unix_ns END;

CREATE OR REPLACE VIEW wafer_data.measured_run AS
SELECT
  changed_xid, trace_id, span_id, site_id, start_time, job, service, equipment, recipe, product, result,
  parent_span_id IS NOT NULL AS subjob,
  CASE WHEN duration_ns >= 0 THEN duration_ns END AS duration_ns,
  wafer_data.cpu_ns(cpu_s) AS cpu_ns,
  CASE WHEN memory_bytes >= 0 THEN memory_bytes END AS memory_bytes,
  wafer_data.queue_ns(start_unix_ns, nominal_unix_ns) AS queue_ns
FROM wafer_data.run;

CREATE OR REPLACE FUNCTION wafer_data.keep_replaced() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO wafer_data.run_replaced (
    changed_xid, trace_id, span_id, site_id, start_time, job, service, equipment, recipe, product, result, subjob, duration_ns,
    cpu_ns, memory_bytes, queue_ns
  ) VALUES (
    old.changed_xid, old.trace_id, old.span_id, old.site_id, old.start_time, old.job, old.service, old.equipment, old.recipe,
    old.product, old.result, old.parent_span_id IS NOT NULL, CASE WHEN old.duration_ns >= 0 THEN old.duration_ns END,
    wafer_data.cpu_ns(old.cpu_s), CASE WHEN old.memory_bytes >= 0 THEN old.memory_bytes END,
    wafer_data.queue_ns(old.start_unix_ns, old.nominal_unix_ns)
  );
  RETURN NULL;
END
$$;
CREATE OR REPLACE TRIGGER keep_replaced AFTER UPDATE OR DELETE ON wafer_data.run
  FOR EACH ROW EXECUTE FUNCTION wafer_data.keep_replaced();

-- ---- the pass ----

-- Versions of ended runs that are not rolled up yet, each with +1, or -1 for one that is rolled up and was replaced since.
-- Values at hand for the planner: it must take the index of changed_xid, not read every run.
CREATE OR REPLACE FUNCTION wafer_data.unrolled_runs() RETURNS TABLE (
  sign smallint, bucket timestamptz, trace_id uuid, span_id bigint, site_id smallint, start_time timestamptz, job text, service text,
  equipment text, recipe text, product text, result text, subjob boolean, duration_ns bigint, cpu_ns bigint, memory_bytes bigint,
  queue_ns bigint, entry bigint
)
LANGUAGE plpgsql STABLE ROWS 100
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
  state wafer_data.rollup_state;
BEGIN
  SELECT * INTO state FROM wafer_data.rollup_state;
  IF state.snapshot IS NULL THEN
    RETURN;
  END IF;
  RETURN QUERY EXECUTE $sql$
    SELECT
      1::smallint, date_trunc('hour', start_time, $3), trace_id, span_id, site_id, start_time, coalesce(job, ''), service,
      equipment, recipe, product, result, subjob, duration_ns, cpu_ns, memory_bytes, queue_ns,
      wafer_data.histogram_bucket(duration_ns)
    FROM wafer_data.measured_run
    WHERE changed_xid >= pg_snapshot_xmin($1) AND NOT pg_visible_in_snapshot(changed_xid, $1)
      AND start_time > '-infinity' AND start_time >= $2 AND date_trunc('hour', start_time, $3) >= $2
  $sql$ USING state.snapshot, greatest(state.built_from, state.horizon), state.time_zone;
  IF NOT EXISTS (SELECT FROM wafer_data.run_replaced) THEN
    RETURN;
  END IF;
  RETURN QUERY EXECUTE $sql$
    WITH gone AS (
      SELECT DISTINCT ON (trace_id, span_id, site_id, start_time, changed_xid) *
      FROM wafer_data.run_replaced
      WHERE pg_visible_in_snapshot(changed_xid, $1)
        AND start_time > '-infinity' AND start_time >= $2 AND date_trunc('hour', start_time, $3) >= $2
      ORDER BY trace_id, span_id, site_id, start_time, changed_xid, replaced_id
    )
    SELECT
      (-1)::smallint, date_trunc('hour', start_time, $3), trace_id, span_id, site_id, start_time, coalesce(job, ''), service,
      equipment, recipe, product, result, subjob, duration_ns, cpu_ns, memory_bytes, queue_ns,
      wafer_data.histogram_bucket(duration_ns)
    FROM gone
    UNION ALL
    -- Moved or changed by a hand that left changed_xid as it was.
    SELECT
      1::smallint, date_trunc('hour', r.start_time, $3), r.trace_id, r.span_id, r.site_id, r.start_time, coalesce(r.job, ''),
      r.service, r.equipment, r.recipe, r.product, r.result, r.subjob, r.duration_ns, r.cpu_ns, r.memory_bytes, r.queue_ns,
      wafer_data.histogram_bucket(r.duration_ns)
    FROM (SELECT DISTINCT trace_id, span_id, site_id, start_time FROM gone) g
    JOIN wafer_data.measured_run r USING (trace_id, span_id, site_id, start_time)
    WHERE pg_visible_in_snapshot(r.changed_xid, $1)
  $sql$ USING state.snapshot, greatest(state.built_from, state.horizon), state.time_zone;
END
$$;

-- Where a session gathers, empty again after every transaction: run_change holds versions of runs, each with +1 or -1; job_change
-- what they are together, in the columns of job_hourly; job_again the jobs whose hour must be made anew.
CREATE OR REPLACE FUNCTION wafer_data.stage_rollups() RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
  IF to_regclass('pg_temp.job_again') IS NULL THEN
    CREATE TEMPORARY TABLE run_change ON COMMIT DELETE ROWS AS SELECT * FROM wafer_data.unrolled_runs() WITH NO DATA;
    CREATE TEMPORARY TABLE job_change ON COMMIT DELETE ROWS AS SELECT * FROM wafer_data.job_hourly WITH NO DATA;
    CREATE TEMPORARY TABLE job_again ON COMMIT DELETE ROWS AS SELECT bucket, site_id, job FROM wafer_data.job_hourly WITH NO DATA;
  END IF;
END
$$;

-- run_change added up into job_change: everything but the histogram in one statement, the histogram in another. Groups get a number,
-- because sorting by one number costs less than sorting by five names.
CREATE OR REPLACE FUNCTION wafer_data.add_up_runs() RETURNS void
LANGUAGE plpgsql
SET work_mem = '64MB'
SET jit = off
AS $$
#variable_conflict use_column
BEGIN
  INSERT INTO pg_temp.job_change
  WITH measured AS MATERIALIZED (
    SELECT
      row_number() OVER () AS number, bucket, grouping(service, equipment, recipe, product) AS sets, site_id, job,
      CASE grouping(service, equipment, recipe, product) WHEN 15 THEN '' ELSE coalesce(service, equipment, recipe, product) END AS value,
      sum(sign) AS ended,
      coalesce(sum(sign) FILTER (WHERE result = 'success'), 0) AS success,
      coalesce(sum(sign) FILTER (WHERE result = 'failure'), 0) AS failure,
      coalesce(sum(sign) FILTER (WHERE result = 'error'), 0) AS error,
      coalesce(sum(sign) FILTER (WHERE result = 'timeout'), 0) AS timeout,
      coalesce(sum(sign) FILTER (WHERE result = 'cancellation'), 0) AS cancellation,
      coalesce(sum(sign) FILTER (WHERE result = 'skip'), 0) AS skip,
      coalesce(sum(sign) FILTER (WHERE subjob), 0) AS subjobs,
      coalesce(sum(sign) FILTER (WHERE duration_ns IS NOT NULL), 0) AS duration_count,
      sum(sign * duration_ns) AS duration_ns,
      min(duration_ns) FILTER (WHERE sign > 0) AS duration_min_ns, max(duration_ns) FILTER (WHERE sign > 0) AS duration_max_ns,
      coalesce(sum(sign) FILTER (WHERE cpu_ns IS NOT NULL), 0) AS cpu_count,
      sum(sign * cpu_ns) AS cpu_ns,
      min(cpu_ns) FILTER (WHERE sign > 0) AS cpu_min_ns, max(cpu_ns) FILTER (WHERE sign > 0) AS cpu_max_ns,
      coalesce(sum(sign) FILTER (WHERE memory_bytes IS NOT NULL), 0) AS memory_count,
      sum(sign * memory_bytes) AS memory_bytes,
      min(memory_bytes) FILTER (WHERE sign > 0) AS memory_min_bytes, max(memory_bytes) FILTER (WHERE sign > 0) AS memory_max_bytes,
      coalesce(sum(sign) FILTER (WHERE queue_ns IS NOT NULL), 0) AS queue_count,
      sum(sign * queue_ns) AS queue_ns,
      min(queue_ns) FILTER (WHERE sign > 0) AS queue_min_ns, max(queue_ns) FILTER (WHERE sign > 0) AS queue_max_ns
    FROM pg_temp.run_change
    GROUP BY bucket, site_id, job, GROUPING SETS ((), (service), (equipment), (recipe), (product))
  ), counted AS (
    SELECT
      bucket, grouping(service, equipment, recipe, product) AS sets, site_id, job,
      CASE grouping(service, equipment, recipe, product) WHEN 15 THEN '' ELSE coalesce(service, equipment, recipe, product) END AS value,
      entry, sum(sign) AS n
    FROM pg_temp.run_change
    WHERE entry IS NOT NULL
    GROUP BY entry, bucket, site_id, job, GROUPING SETS ((), (service), (equipment), (recipe), (product))
  ), histogram AS (
    SELECT number, array_agg(wafer_data.histogram_entry(entry, n) ORDER BY entry) AS durations
    FROM counted JOIN measured USING (bucket, sets, site_id, job, value)
    WHERE n <> 0
    GROUP BY number
  )
  SELECT
    bucket, CASE sets WHEN 15 THEN 0 WHEN 7 THEN 1 WHEN 11 THEN 2 WHEN 13 THEN 3 ELSE 4 END AS dimension, site_id, job, value,
    ended, success, failure, error, timeout, cancellation, skip, subjobs, duration_count, duration_ns, duration_min_ns, duration_max_ns,
    cpu_count, cpu_ns, cpu_min_ns, cpu_max_ns, memory_count, memory_bytes, memory_min_bytes, memory_max_bytes,
    queue_count, queue_ns, queue_min_ns, queue_max_ns, coalesce(durations, '{}')
  FROM measured LEFT JOIN histogram USING (number)
  WHERE value IS NOT NULL;
END
$$;

-- What rows of a rollup table are together, in the order of its columns after `value`.
CREATE OR REPLACE FUNCTION wafer_data.summed_columns() RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 'sum(ended), sum(success), sum(failure), sum(error), sum(timeout), sum(cancellation), sum(skip), sum(subjobs),
  sum(duration_count), sum(duration_ns), min(duration_min_ns), max(duration_max_ns),
  sum(cpu_count), sum(cpu_ns), min(cpu_min_ns), max(cpu_max_ns),
  sum(memory_count), sum(memory_bytes), min(memory_min_bytes), max(memory_max_bytes),
  sum(queue_count), sum(queue_ns), min(queue_min_ns), max(queue_max_ns),
  wafer.sum_durations(durations)';

-- job_change added to `rollup`, one of the four tables, in its buckets of `unit`. An hour is not cut again: where clocks go forward by half
-- an hour, the hour of the half that is left is not the hour of itself.
CREATE OR REPLACE FUNCTION wafer_data.add_changes(rollup text, unit text, zone text) RETURNS void
LANGUAGE plpgsql
SET jit = off
AS $$
BEGIN
  EXECUTE format($sql$
    INSERT INTO wafer_data.%1$I AS t
    SELECT
      %2$s AS bucket, dimension, site_id, job, value,
      %3$s
    FROM pg_temp.job_change
    GROUP BY 1, 2, 3, 4, 5
    ON CONFLICT (dimension, bucket, job, value, site_id) DO UPDATE SET
      ended = t.ended + excluded.ended, success = t.success + excluded.success, failure = t.failure + excluded.failure,
      error = t.error + excluded.error, timeout = t.timeout + excluded.timeout,
      cancellation = t.cancellation + excluded.cancellation, skip = t.skip + excluded.skip, subjobs = t.subjobs + excluded.subjobs,
      duration_count = t.duration_count + excluded.duration_count,
      duration_ns = CASE WHEN t.duration_count + excluded.duration_count > 0 THEN coalesce(t.duration_ns, 0) + coalesce(excluded.duration_ns, 0) END,
      duration_min_ns = least(t.duration_min_ns, excluded.duration_min_ns),
      duration_max_ns = greatest(t.duration_max_ns, excluded.duration_max_ns),
      cpu_count = t.cpu_count + excluded.cpu_count,
      cpu_ns = CASE WHEN t.cpu_count + excluded.cpu_count > 0 THEN coalesce(t.cpu_ns, 0) + coalesce(excluded.cpu_ns, 0) END,
      cpu_min_ns = least(t.cpu_min_ns, excluded.cpu_min_ns), cpu_max_ns = greatest(t.cpu_max_ns, excluded.cpu_max_ns),
      memory_count = t.memory_count + excluded.memory_count,
      memory_bytes = CASE WHEN t.memory_count + excluded.memory_count > 0 THEN coalesce(t.memory_bytes, 0) + coalesce(excluded.memory_bytes, 0) END,
      memory_min_bytes = least(t.memory_min_bytes, excluded.memory_min_bytes),
      memory_max_bytes = greatest(t.memory_max_bytes, excluded.memory_max_bytes),
      queue_count = t.queue_count + excluded.queue_count,
      queue_ns = CASE WHEN t.queue_count + excluded.queue_count > 0 THEN coalesce(t.queue_ns, 0) + coalesce(excluded.queue_ns, 0) END,
      queue_min_ns = least(t.queue_min_ns, excluded.queue_min_ns), queue_max_ns = greatest(t.queue_max_ns, excluded.queue_max_ns),
      durations = wafer_data.add_histograms(t.durations, excluded.durations)
  $sql$, rollup, CASE unit WHEN 'hour' THEN 'bucket' ELSE format('date_trunc(%L, bucket, %L)', unit, zone) END, wafer_data.summed_columns());
END
$$;

-- The buckets of `rollup` made anew from those of the finer table `parts`, for every bucket that job_again touches and for its jobs; or
-- for all jobs, of every such bucket that does not begin before `complete_from`.
DROP FUNCTION IF EXISTS wafer_data.merge_parts(text, text, text, text, boolean);
CREATE OR REPLACE FUNCTION wafer_data.merge_parts(
  rollup text, unit text, parts text, zone text, complete_from timestamptz DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql
SET jit = off
AS $$
DECLARE
  touched record;
BEGIN
  FOR touched IN EXECUTE format(
    'SELECT DISTINCT date_trunc(%L, bucket, %L) AS bucket, %s FROM pg_temp.job_again ORDER BY 1',
    unit, zone, CASE WHEN complete_from IS NOT NULL THEN 'NULL::smallint AS site_id, NULL::text AS job' ELSE 'site_id, job' END
  ) LOOP
    CONTINUE WHEN touched.bucket < complete_from;
    EXECUTE format(
      'DELETE FROM wafer_data.%I WHERE dimension = ANY (''{0,1,2,3,4}'') AND bucket = $1 AND ($2 IS NULL OR (job = $3 AND site_id = $2))', rollup
    ) USING touched.bucket, touched.site_id, touched.job;
    EXECUTE format($sql$
      INSERT INTO wafer_data.%1$I
      SELECT
        $1, dimension, site_id, job, value,
        %5$s
      FROM wafer_data.%2$I
      WHERE bucket >= $1 AND bucket < $1 + interval '33 days' AND date_trunc(%3$L, bucket, %4$L) = $1
        AND dimension = ANY ('{0,1,2,3,4}') AND ($2 IS NULL OR (job = $3 AND site_id = $2))
      GROUP BY dimension, site_id, job, value
    $sql$, rollup, parts, unit, zone, wafer_data.summed_columns()) USING touched.bucket, touched.site_id, touched.job;
  END LOOP;
END
$$;

-- A version that was replaced by one that counts the same is no change.
CREATE OR REPLACE FUNCTION wafer_data.drop_equal_changes() RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
  WITH pair AS (
    SELECT old.ctid AS old_place, new.ctid AS new_place
    FROM pg_temp.run_change old JOIN pg_temp.run_change new USING (trace_id, span_id, site_id, start_time)
    WHERE old.sign < 0 AND new.sign > 0
      AND (old.job, old.service, old.equipment, old.recipe, old.product, old.result, old.subjob, old.duration_ns, old.cpu_ns,
           old.memory_bytes, old.queue_ns)
        IS NOT DISTINCT FROM
          (new.job, new.service, new.equipment, new.recipe, new.product, new.result, new.subjob, new.duration_ns, new.cpu_ns,
           new.memory_bytes, new.queue_ns)
  )
  DELETE FROM pg_temp.run_change WHERE ctid IN (SELECT old_place FROM pair UNION ALL SELECT new_place FROM pair);
END
$$;

-- What run_change holds, in all four tables. Answers how many (hour, site, job) had to be made anew.
CREATE OR REPLACE FUNCTION wafer_data.apply_changes(zone text) RETURNS bigint
LANGUAGE plpgsql
SET jit = off
AS $$
DECLARE
  rollup text;
  again bigint;
BEGIN
  PERFORM wafer_data.add_up_runs();
  PERFORM wafer_data.add_changes('job_hourly', 'hour', zone);
  PERFORM wafer_data.add_changes('job_daily', 'day', zone);
  PERFORM wafer_data.add_changes('job_weekly', 'week', zone);
  PERFORM wafer_data.add_changes('job_monthly', 'month', zone);
  IF NOT EXISTS (SELECT FROM pg_temp.run_change WHERE sign < 0) THEN
    RETURN 0;
  END IF;

  INSERT INTO pg_temp.job_again
  SELECT DISTINCT h.bucket, h.site_id, h.job
  FROM pg_temp.run_change c
  CROSS JOIN LATERAL (
    VALUES (0::smallint, ''), (1::smallint, c.service), (2::smallint, c.equipment), (3::smallint, c.recipe), (4::smallint, c.product)
  ) d (dimension, value)
  JOIN wafer_data.job_hourly h
    ON (h.dimension, h.bucket, h.job, h.value, h.site_id) = (d.dimension, c.bucket, c.job, d.value, c.site_id)
  WHERE c.sign < 0 AND (
    h.ended <= 0
    OR c.duration_ns <= h.duration_min_ns OR c.duration_ns >= h.duration_max_ns
    OR c.cpu_ns <= h.cpu_min_ns OR c.cpu_ns >= h.cpu_max_ns
    OR c.memory_bytes <= h.memory_min_bytes OR c.memory_bytes >= h.memory_max_bytes
    OR c.queue_ns <= h.queue_min_ns OR c.queue_ns >= h.queue_max_ns
  );
  GET DIAGNOSTICS again = ROW_COUNT;
  IF again > 0 THEN
    DELETE FROM pg_temp.run_change;
    DELETE FROM pg_temp.job_change;
    DELETE FROM wafer_data.job_hourly h USING pg_temp.job_again a
    WHERE h.dimension = ANY ('{0,1,2,3,4}') AND (h.bucket, h.site_id, h.job) = (a.bucket, a.site_id, a.job);
    INSERT INTO pg_temp.run_change
    SELECT
      1, a.bucket, r.trace_id, r.span_id, r.site_id, r.start_time, a.job, r.service, r.equipment, r.recipe, r.product, r.result,
      r.subjob, r.duration_ns, r.cpu_ns, r.memory_bytes, r.queue_ns, wafer_data.histogram_bucket(r.duration_ns)
    FROM pg_temp.job_again a CROSS JOIN LATERAL (
      SELECT * FROM wafer_data.measured_run
      WHERE job = a.job AND start_time >= a.bucket AND start_time < a.bucket + interval '2 hours'
      UNION ALL
      SELECT * FROM wafer_data.measured_run
      WHERE a.job = '' AND job IS NULL AND start_time >= a.bucket AND start_time < a.bucket + interval '2 hours'
    ) r
    WHERE r.site_id = a.site_id AND date_trunc('hour', r.start_time, zone) = a.bucket;
    PERFORM wafer_data.add_up_runs();
    PERFORM wafer_data.add_changes('job_hourly', 'hour', zone);
    PERFORM wafer_data.merge_parts('job_daily', 'day', 'job_hourly', zone);
    PERFORM wafer_data.merge_parts('job_weekly', 'week', 'job_daily', zone);
    PERFORM wafer_data.merge_parts('job_monthly', 'month', 'job_daily', zone);
  END IF;
  RETURN again;
END
$$;

-- Hours made from their runs, the newest first, until `box` of time is over or all are made: the first time, after the time zone was
-- changed, and in a database that was restored elsewhere. Answers from where on the hours are made.
CREATE OR REPLACE FUNCTION wafer_data.build_hours(upper_time timestamptz, horizon timestamptz, zone text, box interval) RETURNS timestamptz
LANGUAGE plpgsql
SET jit = off
AS $$
DECLARE
  until constant timestamptz := clock_timestamp() + box;
  cut constant timestamptz := upper_time; -- within longer buckets, which are still to be made
  newest timestamptz;
  lower_time timestamptz;
BEGIN
  LOOP
    -- An hour more, because the hours of a clock that goes back by half an hour overlap.
    SELECT greatest(
      (SELECT date_trunc('hour', start_time, zone) FROM wafer_data.run
       WHERE start_time < upper_time + interval '1 hour' AND start_time > '-infinity' AND start_time >= horizon
         AND date_trunc('hour', start_time, zone) < upper_time
       ORDER BY start_time DESC LIMIT 1),
      (SELECT max(bucket) FROM wafer_data.job_hourly WHERE dimension = 0 AND bucket < upper_time)
    ) INTO newest;
    IF newest IS NULL THEN
      upper_time := '-infinity';
      EXIT;
    END IF;
    lower_time := newest;
    IF lower_time >= horizon THEN
      DELETE FROM wafer_data.job_hourly WHERE dimension = ANY ('{0,1,2,3,4}') AND bucket >= lower_time AND bucket < upper_time;
      DELETE FROM pg_temp.run_change;
      DELETE FROM pg_temp.job_change;
      INSERT INTO pg_temp.run_change
      SELECT
        1, lower_time, trace_id, span_id, site_id, start_time, coalesce(job, ''), service, equipment, recipe, product, result,
        subjob, duration_ns, cpu_ns, memory_bytes, queue_ns, wafer_data.histogram_bucket(duration_ns)
      FROM wafer_data.measured_run
      WHERE start_time >= lower_time AND start_time < lower_time + interval '2 hours'
        AND date_trunc('hour', start_time, zone) = lower_time;
      PERFORM wafer_data.add_up_runs();
      PERFORM wafer_data.add_changes('job_hourly', 'hour', zone);
    ELSE
      lower_time := date_trunc('day', newest, zone); -- of these the hours stay, and only the longer buckets are made
    END IF;
    INSERT INTO pg_temp.job_again (bucket) VALUES (newest);
    upper_time := lower_time;
    EXIT WHEN clock_timestamp() > until;
  END LOOP;
  INSERT INTO pg_temp.job_again (bucket) SELECT cut WHERE cut < 'infinity';
  PERFORM wafer_data.merge_parts('job_daily', 'day', 'job_hourly', zone, upper_time);
  PERFORM wafer_data.merge_parts('job_weekly', 'week', 'job_daily', zone, upper_time);
  PERFORM wafer_data.merge_parts('job_monthly', 'month', 'job_daily', zone, upper_time);
  DELETE FROM pg_temp.job_again;
  RETURN upper_time;
END
$$;

-- One pass, in a REPEATABLE READ transaction of the one leader: rolls up what its snapshot shows. `runs`: versions added or taken away;
-- `again`: hours of jobs made anew; `building`: older hours are still to be made, so call it again soon.
CREATE OR REPLACE FUNCTION wafer_data.roll_up(box interval DEFAULT '2 s', OUT runs bigint, OUT again bigint, OUT building boolean)
LANGUAGE plpgsql
SET jit = off
AS $$
DECLARE
  seen constant pg_snapshot := pg_current_snapshot();
  here constant bigint := (SELECT system_identifier FROM pg_control_system());
  zone constant text := wafer.time_zone();
  state wafer_data.rollup_state;
  anew boolean;
BEGIN
  runs := 0;
  again := 0;
  SELECT * INTO STRICT state FROM wafer_data.rollup_state FOR UPDATE;
  anew := state.snapshot IS NULL OR state.system_identifier <> here OR pg_snapshot_xmax(state.snapshot) > pg_snapshot_xmax(seen);
  IF NOT anew AND state.time_zone = zone AND state.built_from = '-infinity' AND NOT wafer_data.has_unrolled(state.snapshot) THEN
    building := false;
    RETURN;
  END IF;
  PERFORM wafer_data.stage_rollups();

  IF anew THEN
    -- Rows that came with a dump of another server bear numbers of transactions that here are still to come, or under way: `seen` shows
    -- them all the same, so they are built below, and must not count as new afterwards. 3 is long past.
    UPDATE wafer_data.run SET changed_xid = '3' WHERE changed_xid >= pg_snapshot_xmin(seen) AND NOT pg_visible_in_snapshot(changed_xid, seen);
    state.built_from := 'infinity';
  ELSIF state.time_zone <> zone THEN
    DELETE FROM wafer_data.job_daily;
    DELETE FROM wafer_data.job_weekly;
    DELETE FROM wafer_data.job_monthly;
    state.built_from := 'infinity';
  ELSE
    INSERT INTO pg_temp.run_change SELECT * FROM wafer_data.unrolled_runs();
    GET DIAGNOSTICS runs = ROW_COUNT;
    PERFORM wafer_data.drop_equal_changes() WHERE EXISTS (SELECT FROM pg_temp.run_change WHERE sign < 0);
    again := wafer_data.apply_changes(zone);
    DELETE FROM pg_temp.job_again;
  END IF;
  DELETE FROM wafer_data.run_replaced;
  IF state.built_from > '-infinity' THEN
    state.built_from := wafer_data.build_hours(state.built_from, state.horizon, zone, box);
  END IF;
  UPDATE wafer_data.rollup_state SET
    snapshot = seen, taken_at = clock_timestamp(), system_identifier = here, time_zone = zone, built_from = state.built_from;
  building := state.built_from > '-infinity';
END
$$;

-- Whether anything was written about ended runs that `snapshot` does not show.
CREATE OR REPLACE FUNCTION wafer_data.has_unrolled(snapshot pg_snapshot) RETURNS boolean
LANGUAGE plpgsql STABLE
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
  found boolean;
BEGIN
  EXECUTE
    'SELECT EXISTS (SELECT FROM wafer_data.run_replaced) OR EXISTS (
       SELECT FROM wafer_data.run WHERE changed_xid >= pg_snapshot_xmin($1) AND NOT pg_visible_in_snapshot(changed_xid, $1)
     )'
    INTO found USING snapshot;
  RETURN found;
END
$$;

-- Runs of hours before `upper_time` are about to be dropped, in this transaction: those hours stay as they are from now on. False when
-- something of them is still to be rolled up, and they must not be dropped yet. Where nobody ever rolled up there is nothing to keep.
DROP FUNCTION IF EXISTS wafer_data.raise_horizon(timestamptz);
CREATE FUNCTION wafer_data.raise_horizon(upper_time timestamptz) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
  state wafer_data.rollup_state;
BEGIN
  SELECT * INTO STRICT state FROM wafer_data.rollup_state FOR UPDATE;
  IF state.snapshot IS NOT NULL AND (
    state.built_from > '-infinity' OR EXISTS (SELECT FROM wafer_data.unrolled_runs() u WHERE u.start_time < upper_time)
  ) THEN
    RETURN false;
  END IF;
  UPDATE wafer_data.rollup_state SET horizon = upper_time WHERE horizon < upper_time;
  RETURN true;
END
$$;
