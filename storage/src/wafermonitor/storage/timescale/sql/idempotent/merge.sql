-- The twin of `runs.merge`: what a delta says joins what is stored. Called by the writer and by maintenance.

-- One lock for all merging, taken when everything else of a transaction is done and held until it is committed: so of two writers that
-- bring the same run the second sees all that the first wrote, and neither loses a word. Every statement after it has a new
-- snapshot (READ COMMITTED, volatile functions). "wafer", 3.
CREATE OR REPLACE FUNCTION wafer_data.lock_runs() RETURNS void
LANGUAGE sql
RETURN pg_advisory_xact_lock(8602269349144690691);

-- Where a session puts its deltas, empty again after every transaction: a row for each message about a run, in the columns of `run`.
-- What is null is not known; a start that is not known is -infinity.
CREATE OR REPLACE FUNCTION wafer_data.stage_runs() RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
  IF to_regclass('pg_temp.run_delta') IS NULL THEN
    CREATE TEMPORARY TABLE run_delta ON COMMIT DELETE ROWS AS
    SELECT
      trace_id, span_id, site_id, end_rank, final_fields, start_time, start_unix_ns, end_unix_ns, last_sign_unix_ns,
      received_unix_ns, nominal_unix_ns, deadline_unix_ns, expected_duration_s, heartbeat_interval_s, cpu_s,
      memory_bytes, attempt, parent_span_id, process_key, inferred, job, run_id, parent_run_id, feed_id, service,
      service_version, trigger, owner, equipment, recipe, product, lot_ids, substrate_ids, result, error_type,
      progress_unix_ns, progress_ratio, progress_completed, progress_total, progress_unit, progress_stage,
      progress_message, attributes
    FROM wafer_data.run WITH NO DATA;
  END IF;
END
$$;

-- Merge the deltas in `places` of pg_temp.run_delta with what is stored of their runs. Under the lock.
--
-- The planner is told to use the keys, and which side to begin with (OFFSET 0 is a fence), and that no other index that holds the site
-- will do (+ 0): its plan is kept for the session and may be made while the tables are still empty.
CREATE OR REPLACE FUNCTION wafer_data.join_runs(places tid[]) RETURNS void
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
  moved record;
BEGIN
  FOR moved IN
    WITH delta AS MATERIALIZED (
      SELECT
        trace_id, span_id, site_id, end_rank, final_fields, start_time, start_unix_ns, end_unix_ns, last_sign_unix_ns,
        received_unix_ns, nominal_unix_ns, deadline_unix_ns, expected_duration_s, heartbeat_interval_s, cpu_s,
        memory_bytes, attempt, parent_span_id, process_key, inferred, job, run_id, parent_run_id, feed_id, service,
        service_version, trigger, owner, equipment, recipe, product, lot_ids, substrate_ids, result, error_type,
        progress_unix_ns, progress_ratio, progress_completed, progress_total, progress_unit, progress_stage,
        progress_message, attributes::text COLLATE "C" AS attributes
      FROM pg_temp.run_delta WHERE ctid = ANY (places)
    ), version AS (
      SELECT *, NULL::boolean AS ended FROM delta
      UNION ALL
      SELECT o.* FROM (SELECT DISTINCT trace_id, span_id, site_id FROM delta) d CROSS JOIN LATERAL (
        SELECT
          x.trace_id, x.span_id, x.site_id, x.end_rank, x.final_fields, x.start_time, x.start_unix_ns, x.end_unix_ns,
          x.last_sign_unix_ns, x.received_unix_ns, x.nominal_unix_ns, x.deadline_unix_ns, x.expected_duration_s,
          x.heartbeat_interval_s, x.cpu_s, x.memory_bytes, x.attempt, x.parent_span_id, x.process_key, x.inferred, x.job,
          x.run_id, x.parent_run_id, x.feed_id, x.service, x.service_version, x.trigger, x.owner, x.equipment, x.recipe,
          x.product, x.lot_ids, x.substrate_ids, x.result, x.error_type, x.progress_unix_ns, x.progress_ratio,
          x.progress_completed, x.progress_total, x.progress_unit, x.progress_stage, x.progress_message,
          x.attributes::text COLLATE "C",
          false
        FROM wafer_data.run_open x
        WHERE (x.trace_id, x.span_id, x.site_id) = (d.trace_id, d.span_id, d.site_id) OFFSET 0
        FOR UPDATE
      ) o
      UNION ALL
      SELECT r.* FROM (SELECT DISTINCT trace_id, span_id, site_id FROM delta) d CROSS JOIN LATERAL (
        SELECT
          x.trace_id, x.span_id, x.site_id, x.end_rank, x.final_fields, x.start_time, x.start_unix_ns, x.end_unix_ns,
          x.last_sign_unix_ns, x.received_unix_ns, x.nominal_unix_ns, x.deadline_unix_ns, x.expected_duration_s,
          x.heartbeat_interval_s, x.cpu_s, x.memory_bytes, x.attempt, x.parent_span_id, x.process_key, x.inferred, x.job,
          x.run_id, x.parent_run_id, x.feed_id, x.service, x.service_version, x.trigger, x.owner, x.equipment, x.recipe,
          x.product, x.lot_ids, x.substrate_ids, x.result, x.error_type, x.progress_unix_ns, x.progress_ratio,
          x.progress_completed, x.progress_total, x.progress_unit, x.progress_stage, x.progress_message,
          x.attributes::text COLLATE "C",
          true
        FROM wafer_data.run x
        WHERE (x.trace_id, x.span_id, x.site_id + 0) = (d.trace_id, d.span_id, d.site_id) OFFSET 0
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
        coalesce(max(attributes) FILTER (WHERE final_fields & 524288 <> 0), max(attributes))::json AS attributes,
        bool_or(NOT ended) AS was_open,
        array_agg(start_time) FILTER (WHERE ended) AS starts
      FROM (
        SELECT *,
          parent_span_id # (-9223372036854775808) AS parent_order, -- ids are unsigned bytes: flipping the sign bit keeps their order
          process_key::text COLLATE "C" AS process_text,
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
      INSERT INTO wafer_data.run (
        trace_id, span_id, site_id, end_rank, final_fields, start_time, start_unix_ns, end_unix_ns, last_sign_unix_ns,
        received_unix_ns, nominal_unix_ns, deadline_unix_ns, expected_duration_s, heartbeat_interval_s, cpu_s,
        memory_bytes, attempt, parent_span_id, process_key, inferred, job, run_id, parent_run_id, feed_id, service,
        service_version, trigger, owner, equipment, recipe, product, lot_ids, substrate_ids, result, error_type,
        progress_unix_ns, progress_ratio, progress_completed, progress_total, progress_unit, progress_stage,
        progress_message, attributes
      )
      SELECT
        trace_id, span_id, site_id, end_rank, final_fields, start_time, start_unix_ns, end_unix_ns, last_sign_unix_ns,
        received_unix_ns, nominal_unix_ns, deadline_unix_ns, expected_duration_s, heartbeat_interval_s, cpu_s,
        memory_bytes, attempt, parent_span_id, process_key, inferred, job, run_id, parent_run_id, feed_id, service,
        service_version, trigger, owner, equipment, recipe, product, lot_ids, substrate_ids, result, error_type,
        progress_unix_ns, progress_ratio, progress_completed, progress_total, progress_unit, progress_stage,
        progress_message, attributes
      FROM merged WHERE end_rank > 0
      ON CONFLICT (trace_id, span_id, site_id, start_time)
      DO UPDATE SET
        changed_xid = excluded.changed_xid,
        end_rank = excluded.end_rank, final_fields = excluded.final_fields, start_time = excluded.start_time,
        start_unix_ns = excluded.start_unix_ns, end_unix_ns = excluded.end_unix_ns, last_sign_unix_ns = excluded.last_sign_unix_ns,
        received_unix_ns = excluded.received_unix_ns, nominal_unix_ns = excluded.nominal_unix_ns, deadline_unix_ns = excluded.deadline_unix_ns,
        expected_duration_s = excluded.expected_duration_s, heartbeat_interval_s = excluded.heartbeat_interval_s, cpu_s = excluded.cpu_s,
        memory_bytes = excluded.memory_bytes, attempt = excluded.attempt, parent_span_id = excluded.parent_span_id,
        process_key = excluded.process_key, inferred = excluded.inferred, job = excluded.job,
        run_id = excluded.run_id, parent_run_id = excluded.parent_run_id, feed_id = excluded.feed_id,
        service = excluded.service, service_version = excluded.service_version, trigger = excluded.trigger,
        owner = excluded.owner, equipment = excluded.equipment, recipe = excluded.recipe,
        product = excluded.product, lot_ids = excluded.lot_ids, substrate_ids = excluded.substrate_ids,
        result = excluded.result, error_type = excluded.error_type, progress_unix_ns = excluded.progress_unix_ns,
        progress_ratio = excluded.progress_ratio, progress_completed = excluded.progress_completed, progress_total = excluded.progress_total,
        progress_unit = excluded.progress_unit, progress_stage = excluded.progress_stage, progress_message = excluded.progress_message,
        attributes = excluded.attributes
    ), opened AS (
      INSERT INTO wafer_data.run_open (
        trace_id, span_id, site_id, end_rank, final_fields, start_time, start_unix_ns, end_unix_ns, last_sign_unix_ns,
        received_unix_ns, nominal_unix_ns, deadline_unix_ns, expected_duration_s, heartbeat_interval_s, cpu_s,
        memory_bytes, attempt, parent_span_id, process_key, inferred, job, run_id, parent_run_id, feed_id, service,
        service_version, trigger, owner, equipment, recipe, product, lot_ids, substrate_ids, result, error_type,
        progress_unix_ns, progress_ratio, progress_completed, progress_total, progress_unit, progress_stage,
        progress_message, attributes
      )
      SELECT
        trace_id, span_id, site_id, end_rank, final_fields, start_time, start_unix_ns, end_unix_ns, last_sign_unix_ns,
        received_unix_ns, nominal_unix_ns, deadline_unix_ns, expected_duration_s, heartbeat_interval_s, cpu_s,
        memory_bytes, attempt, parent_span_id, process_key, inferred, job, run_id, parent_run_id, feed_id, service,
        service_version, trigger, owner, equipment, recipe, product, lot_ids, substrate_ids, result, error_type,
        progress_unix_ns, progress_ratio, progress_completed, progress_total, progress_unit, progress_stage,
        progress_message, attributes
      FROM merged WHERE end_rank = 0
      ON CONFLICT (trace_id, span_id, site_id)
      DO UPDATE SET
        changed_xid = excluded.changed_xid,
        end_rank = excluded.end_rank, final_fields = excluded.final_fields, start_time = excluded.start_time,
        start_unix_ns = excluded.start_unix_ns, end_unix_ns = excluded.end_unix_ns, last_sign_unix_ns = excluded.last_sign_unix_ns,
        received_unix_ns = excluded.received_unix_ns, nominal_unix_ns = excluded.nominal_unix_ns, deadline_unix_ns = excluded.deadline_unix_ns,
        expected_duration_s = excluded.expected_duration_s, heartbeat_interval_s = excluded.heartbeat_interval_s, cpu_s = excluded.cpu_s,
        memory_bytes = excluded.memory_bytes, attempt = excluded.attempt, parent_span_id = excluded.parent_span_id,
        process_key = excluded.process_key, inferred = excluded.inferred, job = excluded.job,
        run_id = excluded.run_id, parent_run_id = excluded.parent_run_id, feed_id = excluded.feed_id,
        service = excluded.service, service_version = excluded.service_version, trigger = excluded.trigger,
        owner = excluded.owner, equipment = excluded.equipment, recipe = excluded.recipe,
        product = excluded.product, lot_ids = excluded.lot_ids, substrate_ids = excluded.substrate_ids,
        result = excluded.result, error_type = excluded.error_type, progress_unix_ns = excluded.progress_unix_ns,
        progress_ratio = excluded.progress_ratio, progress_completed = excluded.progress_completed, progress_total = excluded.progress_total,
        progress_unit = excluded.progress_unit, progress_stage = excluded.progress_stage, progress_message = excluded.progress_message,
        attributes = excluded.attributes
    )
    -- Its start became known, or is earlier than was known: the row of the old start is taken away.
    SELECT trace_id, span_id, site_id, old.start_time
    FROM merged m CROSS JOIN LATERAL unnest(starts) AS old (start_time)
    WHERE m.end_rank = 0 OR old.start_time <> m.start_time
  LOOP
    DELETE FROM wafer_data.run
    WHERE (trace_id, span_id, site_id, start_time) = (moved.trace_id, moved.span_id, moved.site_id, moved.start_time);
  END LOOP;
END
$$;

-- Merge all of pg_temp.run_delta.
DROP FUNCTION IF EXISTS wafer_data.merge_runs(json);
CREATE OR REPLACE FUNCTION wafer_data.merge_runs() RETURNS void
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_bitmapscan = off
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
  known tid[];
  fresh tid[];
BEGIN
  PERFORM wafer_data.lock_runs();
  -- Most runs come as one message and are heard of for the first time: they need no joining.
  SELECT array_agg(place) FILTER (WHERE joins), array_agg(place) FILTER (WHERE NOT joins) INTO known, fresh
  FROM (
    SELECT d.ctid AS place, count(*) OVER (PARTITION BY trace_id, span_id, site_id) > 1
      OR EXISTS (
        SELECT FROM wafer_data.run_open o
        WHERE (o.trace_id, o.span_id, o.site_id) = (d.trace_id, d.span_id, d.site_id) OFFSET 0
      ) OR EXISTS (
        SELECT FROM wafer_data.run r
        WHERE (r.trace_id, r.span_id, r.site_id + 0) = (d.trace_id, d.span_id, d.site_id) OFFSET 0
      ) AS joins
    FROM pg_temp.run_delta d
  ) AS message;

  INSERT INTO wafer_data.run (
      trace_id, span_id, site_id, end_rank, final_fields, start_time, start_unix_ns, end_unix_ns, last_sign_unix_ns,
      received_unix_ns, nominal_unix_ns, deadline_unix_ns, expected_duration_s, heartbeat_interval_s, cpu_s,
      memory_bytes, attempt, parent_span_id, process_key, inferred, job, run_id, parent_run_id, feed_id, service,
      service_version, trigger, owner, equipment, recipe, product, lot_ids, substrate_ids, result, error_type,
      progress_unix_ns, progress_ratio, progress_completed, progress_total, progress_unit, progress_stage,
      progress_message, attributes
  )
  SELECT
      trace_id, span_id, site_id, end_rank, final_fields, start_time, start_unix_ns, end_unix_ns, last_sign_unix_ns,
      received_unix_ns, nominal_unix_ns, deadline_unix_ns, expected_duration_s, heartbeat_interval_s, cpu_s,
      memory_bytes, attempt, parent_span_id, process_key, inferred, job, run_id, parent_run_id, feed_id, service,
      service_version, trigger, owner, equipment, recipe, product, lot_ids, substrate_ids, result, error_type,
      progress_unix_ns, progress_ratio, progress_completed, progress_total, progress_unit, progress_stage,
      progress_message, attributes
  FROM pg_temp.run_delta
  WHERE ctid = ANY (fresh) AND end_rank > 0;

  INSERT INTO wafer_data.run_open (
      trace_id, span_id, site_id, end_rank, final_fields, start_time, start_unix_ns, end_unix_ns, last_sign_unix_ns,
      received_unix_ns, nominal_unix_ns, deadline_unix_ns, expected_duration_s, heartbeat_interval_s, cpu_s,
      memory_bytes, attempt, parent_span_id, process_key, inferred, job, run_id, parent_run_id, feed_id, service,
      service_version, trigger, owner, equipment, recipe, product, lot_ids, substrate_ids, result, error_type,
      progress_unix_ns, progress_ratio, progress_completed, progress_total, progress_unit, progress_stage,
      progress_message, attributes
  )
  SELECT
      trace_id, span_id, site_id, end_rank, final_fields, start_time, start_unix_ns, end_unix_ns, last_sign_unix_ns,
      received_unix_ns, nominal_unix_ns, deadline_unix_ns, expected_duration_s, heartbeat_interval_s, cpu_s,
      memory_bytes, attempt, parent_span_id, process_key, inferred, job, run_id, parent_run_id, feed_id, service,
      service_version, trigger, owner, equipment, recipe, product, lot_ids, substrate_ids, result, error_type,
      progress_unix_ns, progress_ratio, progress_completed, progress_total, progress_unit, progress_stage,
      progress_message, attributes
  FROM pg_temp.run_delta
  WHERE ctid = ANY (fresh) AND end_rank = 0;

  IF known IS NOT NULL THEN
    PERFORM wafer_data.join_runs(known);
  END IF;
END
$$;

-- A ghost is a run that stands in run_open and in run. No writer leaves one; a restored backup or a foreign hand may.
-- Merging with a delta that says nothing joins both rows in the place where they belong. Returns how many there were.
CREATE OR REPLACE FUNCTION wafer_data.sweep_ghosts() RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
  ghosts bigint;
BEGIN
  PERFORM wafer_data.stage_runs();
  INSERT INTO pg_temp.run_delta (trace_id, span_id, site_id, end_rank, final_fields, start_time, inferred)
  SELECT o.trace_id, o.span_id, o.site_id, 0, 0, '-infinity', true
  FROM wafer_data.run_open o
  WHERE o.end_rank > 0
    OR EXISTS (SELECT FROM wafer_data.run r WHERE (r.trace_id, r.span_id, r.site_id) = (o.trace_id, o.span_id, o.site_id));
  GET DIAGNOSTICS ghosts = ROW_COUNT;
  IF ghosts > 0 THEN
    PERFORM wafer_data.merge_runs();
  END IF;
  RETURN ghosts;
END
$$;
