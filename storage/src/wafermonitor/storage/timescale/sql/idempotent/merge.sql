-- The twin of `runs.merge`: what a delta says joins what is stored. Called by the writer and by maintenance.
--
-- Where a run's row is: in `run_open` until it has ended, then in the month of `run` in which it began. Looking in every month costs as
-- much as all the rest where there are many, so a merge looks in `run_open`, in the months around now (31 days back and ahead), and
-- where starts are that nobody knows. It looks everywhere when `run_far` has the run, which names every ended run that began more than
-- 7 days from when it was last merged; and when the delta itself is that far, or knows no start, and the run is not open.
-- So a row is missed in one case: the same ids come again with a start of this week, the run that had them last changed more than 24
-- days ago (31 - 7), and it began more than 31 days ago. That is another run, and has a row of its own, until something joins the two: a
-- message with these ids that knows no start, or maintenance, which sweeps ghosts, while it is open.

-- The columns of a run stand in its table; here they are filled in once, when this file is applied:
--   {columns}       what a delta has: every column but what the table makes itself
--   {excluded}      each of them = excluded.…
--   {count}         how many they are
CREATE OR REPLACE FUNCTION wafer_data.with_run_columns(template text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
  known record;
BEGIN
  SELECT string_agg(attname, ', ' ORDER BY attnum) AS columns,
    string_agg(format('%1$s = excluded.%1$s', attname), ', ' ORDER BY attnum) AS excluded,
    count(*)::text AS count
  INTO STRICT known
  FROM pg_attribute
  WHERE attrelid = 'wafer_data.run'::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '' AND attname <> 'changed_xid';
  EXECUTE replace(replace(replace(template, '{columns}', known.columns), '{excluded}', known.excluded), '{count}', known.count);
END
$$;

-- One lock for all merging, taken when everything else of a transaction is done and held until it is committed: so of two writers that
-- bring the same run the second sees all that the first wrote, and neither loses a word. Every statement after it has a new
-- snapshot (READ COMMITTED, volatile functions). "wafer", 3.
CREATE OR REPLACE FUNCTION wafer_data.lock_runs() RETURNS void
LANGUAGE sql
RETURN pg_advisory_xact_lock(8602269349144690691);

-- Where a session puts its deltas, empty again after every transaction: a row for each message about a run, in the columns of `run`.
-- What is null is not known; a start that is not known is -infinity. One of another shape is of before an upgrade.
SELECT wafer_data.with_run_columns($template$
CREATE OR REPLACE FUNCTION wafer_data.stage_runs() RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
  shape constant smallint := (SELECT relnatts FROM pg_class WHERE oid = to_regclass('pg_temp.run_delta'));
BEGIN
  IF shape IS DISTINCT FROM {count} THEN
    DROP TABLE IF EXISTS pg_temp.run_delta;
    CREATE TEMPORARY TABLE run_delta ON COMMIT DELETE ROWS AS SELECT {columns} FROM wafer_data.run WITH NO DATA;
  END IF;
END
$$;
$template$);

-- Merge the deltas in `places` of pg_temp.run_delta with what is stored of their runs: in `run_open`, and in `run` where `stored` says.
-- Under the lock. Answers (site, start) of every ended row that there is now, and of every one that is there no more.
--
-- A plan is kept for the session and may be made while the tables are still empty, when every index looks equally good. So the planner
-- is told which side to begin with (OFFSET 0 is a fence), and every other index than the key is made unfit: by + 0 those that hold the
-- site, by OR those that hold the start. It still leaves out the months that are not asked for, when it runs the plan. One plan for all
-- values, because looking for a better one takes longer than most merges.
DROP FUNCTION IF EXISTS wafer_data.join_runs(tid[]);
SELECT wafer_data.with_run_columns($template$
CREATE OR REPLACE FUNCTION wafer_data.join_runs(places tid[], stored wafer_data.run_far[])
RETURNS TABLE (touched_site_id smallint, touched_start timestamptz)
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
  changed record;
BEGIN
  FOR changed IN
    WITH delta AS MATERIALIZED (
      SELECT {columns} FROM pg_temp.run_delta WHERE ctid = ANY (places)
    ), version AS (
      SELECT {columns}, NULL::boolean AS ended FROM delta
      UNION ALL
      SELECT o.* FROM (SELECT DISTINCT trace_id, span_id, site_id FROM delta) d CROSS JOIN LATERAL (
        SELECT {columns}, false
        FROM wafer_data.run_open x
        WHERE (x.trace_id, x.span_id, x.site_id) = (d.trace_id, d.span_id, d.site_id) OFFSET 0
        FOR UPDATE
      ) o
      UNION ALL
      SELECT r.* FROM unnest(stored) s CROSS JOIN LATERAL (
        SELECT {columns}, true
        FROM wafer_data.run x
        WHERE (x.trace_id, x.span_id, x.site_id + 0) = (s.trace_id, s.span_id, s.site_id)
          AND (x.start_time >= s.start_time AND x.start_time <= s.start_time OR x.start_time = 'infinity') OFFSET 0
      ) r
    ), merged AS MATERIALIZED (
      -- The number in a filter is the field's bit in `final_fields`.
      SELECT
        trace_id,
        span_id,
        site_id,
        max(end_rank) FILTER (WHERE nth_end = 1) AS end_rank,
        bit_or(final_fields) AS final_fields,
        coalesce(min(start_time) FILTER (WHERE start_unix_ns IS NOT NULL), '-infinity') AS start_time,
        min(start_unix_ns) AS start_unix_ns,
        max(end_unix_ns) FILTER (WHERE nth_end = 1) AS end_unix_ns,
        max(last_sign_unix_ns) AS last_sign_unix_ns,
        max(received_unix_ns) AS received_unix_ns,
        coalesce(max(nominal_unix_ns) FILTER (WHERE final_fields & 512 <> 0), max(nominal_unix_ns)) AS nominal_unix_ns,
        coalesce(max(deadline_unix_ns) FILTER (WHERE final_fields & 2048 <> 0), max(deadline_unix_ns)) AS deadline_unix_ns,
        coalesce(max(expected_duration_s) FILTER (WHERE final_fields & 1024 <> 0), max(expected_duration_s)) AS expected_duration_s,
        max(heartbeat_interval_s) AS heartbeat_interval_s,
        max(cpu_s) AS cpu_s,
        max(memory_bytes) AS memory_bytes,
        coalesce(max(attempt) FILTER (WHERE final_fields & 128 <> 0), max(attempt)) AS attempt,
        coalesce(max(parent_order) FILTER (WHERE final_fields & 4 <> 0), max(parent_order)) # (-9223372036854775808) AS parent_span_id,
        coalesce(max(process_text) FILTER (WHERE final_fields & 262144 <> 0), max(process_text))::uuid AS process_key,
        bool_and(inferred) AS inferred,
        coalesce(max(job) FILTER (WHERE final_fields & 1 <> 0), max(job)) AS job,
        coalesce(max(run_id) FILTER (WHERE final_fields & 2 <> 0), max(run_id)) AS run_id,
        coalesce(max(parent_run_id) FILTER (WHERE final_fields & 8 <> 0), max(parent_run_id)) AS parent_run_id,
        coalesce(max(feed_id) FILTER (WHERE final_fields & 16 <> 0), max(feed_id)) AS feed_id,
        coalesce(max(service) FILTER (WHERE final_fields & 32 <> 0), max(service)) AS service,
        coalesce(max(service_version) FILTER (WHERE final_fields & 64 <> 0), max(service_version)) AS service_version,
        coalesce(max(trigger) FILTER (WHERE final_fields & 256 <> 0), max(trigger)) AS trigger,
        coalesce(max(owner) FILTER (WHERE final_fields & 4096 <> 0), max(owner)) AS owner,
        coalesce(max(equipment) FILTER (WHERE final_fields & 8192 <> 0), max(equipment)) AS equipment,
        coalesce(max(recipe) FILTER (WHERE final_fields & 16384 <> 0), max(recipe)) AS recipe,
        coalesce(max(product) FILTER (WHERE final_fields & 32768 <> 0), max(product)) AS product,
        coalesce(max(lot_ids) FILTER (WHERE final_fields & 65536 <> 0), max(lot_ids)) AS lot_ids,
        coalesce(max(substrate_ids) FILTER (WHERE final_fields & 131072 <> 0), max(substrate_ids)) AS substrate_ids,
        max(result) FILTER (WHERE nth_end = 1) AS result,
        max(error_type) FILTER (WHERE nth_end = 1) AS error_type,
        max(progress_unix_ns) FILTER (WHERE nth_progress = 1) AS progress_unix_ns,
        max(progress_ratio) FILTER (WHERE nth_progress = 1) AS progress_ratio,
        max(progress_completed) FILTER (WHERE nth_progress = 1) AS progress_completed,
        max(progress_total) FILTER (WHERE nth_progress = 1) AS progress_total,
        max(progress_unit) FILTER (WHERE nth_progress = 1) AS progress_unit,
        max(progress_stage) FILTER (WHERE nth_progress = 1) AS progress_stage,
        max(progress_message) FILTER (WHERE nth_progress = 1) AS progress_message,
        coalesce(max(attributes_text) FILTER (WHERE final_fields & 524288 <> 0), max(attributes_text))::json AS attributes,
        bool_or(NOT ended) AS was_open,
        array_agg(start_time) FILTER (WHERE ended) AS starts
      FROM (
        SELECT *,
          parent_span_id # (-9223372036854775808) AS parent_order, -- ids are unsigned bytes: flipping the sign bit keeps their order
          process_key::text COLLATE "C" AS process_text,
          attributes::text COLLATE "C" AS attributes_text,
          row_number() OVER (
            PARTITION BY trace_id, span_id, site_id
            ORDER BY end_rank DESC, coalesce(end_unix_ns, 0) DESC, coalesce(result, '') DESC, coalesce(error_type, '') DESC
          ) AS nth_end,
          row_number() OVER (
            PARTITION BY trace_id, span_id, site_id
            ORDER BY progress_unix_ns DESC NULLS LAST, progress_ratio DESC NULLS LAST, progress_completed DESC NULLS LAST,
              progress_total DESC NULLS LAST, coalesce(progress_unit, '') DESC, coalesce(progress_stage, '') DESC,
              coalesce(progress_message, '') DESC
          ) AS nth_progress
        FROM version
      ) ranked
      GROUP BY trace_id, span_id, site_id
    ), closed AS (
      -- By key: maintenance may have made a new version of the row since this statement began.
      DELETE FROM wafer_data.run_open o USING merged m
      WHERE (o.trace_id, o.span_id, o.site_id) = (m.trace_id, m.span_id, m.site_id) AND m.end_rank > 0 AND m.was_open
    ), ended AS (
      INSERT INTO wafer_data.run ({columns})
      SELECT {columns} FROM merged WHERE end_rank > 0
      ON CONFLICT (trace_id, span_id, site_id, start_time) DO UPDATE SET changed_xid = excluded.changed_xid, {excluded}
    ), far AS (
      INSERT INTO wafer_data.run_far (trace_id, span_id, site_id, start_time)
      SELECT trace_id, span_id, site_id, start_time FROM merged
      WHERE end_rank > 0 AND start_time > '-infinity' AND start_time NOT BETWEEN now() - interval '7 days' AND now() + interval '7 days'
      ON CONFLICT (trace_id, span_id, site_id) DO UPDATE SET start_time = excluded.start_time
    ), opened AS (
      INSERT INTO wafer_data.run_open ({columns})
      SELECT {columns} FROM merged WHERE end_rank = 0
      ON CONFLICT (trace_id, span_id, site_id) DO UPDATE SET changed_xid = excluded.changed_xid, {excluded}
    )
    SELECT trace_id, span_id, site_id, start_time, end_rank > 0 AS has_ended, coalesce(starts, '{}') AS starts
    FROM merged WHERE end_rank > 0 OR starts IS NOT NULL
  LOOP
    touched_site_id := changed.site_id;
    IF changed.has_ended THEN
      touched_start := changed.start_time;
      RETURN NEXT;
    END IF;
    -- Its start became known, or is earlier than was known: the row of the old start is taken away.
    FOREACH touched_start IN ARRAY changed.starts LOOP
      IF NOT changed.has_ended OR touched_start <> changed.start_time THEN
        DELETE FROM wafer_data.run
        WHERE (trace_id, span_id, site_id, start_time) = (changed.trace_id, changed.span_id, changed.site_id, touched_start);
        RETURN NEXT;
      END IF;
    END LOOP;
  END LOOP;
END
$$;
$template$);

-- Merge all of pg_temp.run_delta. `everywhere`: look for each run in every month, wherever it should be.
DROP FUNCTION IF EXISTS wafer_data.merge_runs();
SELECT wafer_data.with_run_columns($template$
CREATE OR REPLACE FUNCTION wafer_data.merge_runs(everywhere boolean DEFAULT false) RETURNS void
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
  oldest constant timestamptz := now() - interval '31 days';
  newest constant timestamptz := now() + interval '31 days';
  last_week constant timestamptz := now() - interval '7 days';
  next_week constant timestamptz := now() + interval '7 days';
  any_far boolean;
  fresh tid[]; -- heard of for the first time and in one message, as most runs are: they need no joining
  near tid[];
  far tid[];
  stored wafer_data.run_far[];
  stored_far wafer_data.run_far[];
BEGIN
  PERFORM wafer_data.lock_runs();
  any_far := EXISTS (SELECT FROM wafer_data.run_far);
  SELECT
    array_agg(place) FILTER (WHERE way = 'fresh'), array_agg(place) FILTER (WHERE way = 'near'), array_agg(place) FILTER (WHERE way = 'far')
  INTO fresh, near, far
  FROM (
    SELECT
      place,
      CASE
        WHEN everywhere OR (is_far AND NOT is_open) OR any_far AND EXISTS (
          SELECT FROM wafer_data.run_far f
          WHERE (f.trace_id, f.span_id, f.site_id) = (d.trace_id, d.span_id, d.site_id) OFFSET 0
        ) THEN 'far'
        WHEN is_open OR is_one_of_many OR EXISTS (
          SELECT FROM wafer_data.run r
          WHERE (r.trace_id, r.span_id, r.site_id + 0) = (d.trace_id, d.span_id, d.site_id)
            AND (r.start_time >= oldest AND r.start_time <= newest OR r.start_time = '-infinity') OFFSET 0
        ) THEN 'near'
        ELSE 'fresh'
      END AS way
    FROM (
      SELECT
        ctid AS place, trace_id, span_id, site_id,
        count(*) OVER (PARTITION BY trace_id, span_id, site_id) > 1 AS is_one_of_many,
        start_time NOT BETWEEN last_week AND next_week AS is_far,
        EXISTS (
          SELECT FROM wafer_data.run_open o
          WHERE (o.trace_id, o.span_id, o.site_id) = (x.trace_id, x.span_id, x.site_id) OFFSET 0
        ) AS is_open
      FROM pg_temp.run_delta x
      OFFSET 0
    ) d
    OFFSET 0 -- or it would be worked out once for each way
  ) AS message;

  INSERT INTO wafer_data.run ({columns})
  SELECT {columns} FROM pg_temp.run_delta WHERE ctid = ANY (fresh) AND end_rank > 0;

  INSERT INTO wafer_data.run_open ({columns})
  SELECT {columns} FROM pg_temp.run_delta WHERE ctid = ANY (fresh) AND end_rank = 0;

  IF near IS NOT NULL THEN
    SELECT array_agg((d.trace_id, d.span_id, d.site_id, r.start_time)::wafer_data.run_far) INTO stored
    FROM (SELECT DISTINCT trace_id, span_id, site_id FROM pg_temp.run_delta WHERE ctid = ANY (near)) d CROSS JOIN LATERAL (
      SELECT x.start_time FROM wafer_data.run x
      WHERE (x.trace_id, x.span_id, x.site_id + 0) = (d.trace_id, d.span_id, d.site_id)
        AND (x.start_time >= oldest AND x.start_time <= newest OR x.start_time = '-infinity') OFFSET 0
    ) r;
  END IF;
  IF far IS NOT NULL THEN
    SELECT array_agg((d.trace_id, d.span_id, d.site_id, r.start_time)::wafer_data.run_far) INTO stored_far
    FROM (SELECT DISTINCT trace_id, span_id, site_id FROM pg_temp.run_delta WHERE ctid = ANY (far)) d CROSS JOIN LATERAL (
      SELECT x.start_time FROM wafer_data.run x
      WHERE (x.trace_id, x.span_id, x.site_id + 0) = (d.trace_id, d.span_id, d.site_id) OFFSET 0
    ) r;
  END IF;
  IF near IS NOT NULL OR far IS NOT NULL THEN
    PERFORM wafer_data.join_runs(near || far, stored || stored_far);
  END IF;
  -- Whatever is derived from ended runs hooks in here: `fresh` (places of deltas) and the answer of join_runs tell what changed.
END
$$;
$template$);

-- A ghost is a run that stands in run_open and in run. No writer leaves one, but for ids that come again (see above); a restored backup
-- or a foreign hand may. Merging with a delta that says nothing joins both rows in the place where they belong. Every writer waits for
-- the lock meanwhile, so a round takes no more than 4096 of them. Returns how many it took.
CREATE OR REPLACE FUNCTION wafer_data.sweep_ghosts() RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
  ghosts bigint;
  oldest timestamptz;
BEGIN
  PERFORM wafer_data.stage_runs();
  INSERT INTO pg_temp.run_delta (trace_id, span_id, site_id, end_rank, final_fields, start_time, inferred)
  SELECT o.trace_id, o.span_id, o.site_id, 0, 0, '-infinity', true
  FROM wafer_data.run_open o
  WHERE o.end_rank > 0
    OR EXISTS (SELECT FROM wafer_data.run r WHERE (r.trace_id, r.span_id, r.site_id) = (o.trace_id, o.span_id, o.site_id))
  LIMIT 4096;
  GET DIAGNOSTICS ghosts = ROW_COUNT;
  IF ghosts > 0 THEN
    PERFORM wafer_data.merge_runs(everywhere => true);
  END IF;
  -- Runs whose months are gone need no looking for. Under the lock, or it would take one away that is just being merged again.
  oldest := (SELECT min(start_time) FROM wafer_data.run WHERE start_time > '-infinity');
  IF EXISTS (SELECT FROM wafer_data.run_far WHERE start_time < oldest) THEN
    PERFORM wafer_data.lock_runs();
    oldest := (SELECT min(start_time) FROM wafer_data.run WHERE start_time > '-infinity');
    DELETE FROM wafer_data.run_far
    WHERE ctid = ANY (ARRAY(SELECT ctid FROM wafer_data.run_far WHERE start_time < oldest LIMIT 4096));
  END IF;
  RETURN ghosts;
END
$$;

DROP FUNCTION wafer_data.with_run_columns(text);
