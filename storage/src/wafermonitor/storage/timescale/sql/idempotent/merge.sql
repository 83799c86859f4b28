-- The twin of `runs.merge`: what a delta says joins what is stored. Called by the writer and by sweep_ghosts.

-- Locks: a run is locked by its row in run_open, in the order of the array, wherever its data is; so two writers that bring the
-- same runs wait for each other and neither loses a word. A blank row (end_rank -1) is made where there is none, and never
-- outlives the transaction. Every statement below sees what the other writer has committed (READ COMMITTED, volatile function).
--
-- In: a JSON array of objects with the columns below, one per run, sorted by key; what is absent is not known.
-- The planner is told to use the keys: its plan is kept for the session and may be made while the tables are still empty.
CREATE OR REPLACE FUNCTION wafer_data.merge_runs(deltas json) RETURNS void
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $$
#variable_conflict use_column
BEGIN
  -- The update never happens: asking for it is what locks a row that is already there.
  INSERT INTO wafer_data.run_open (trace_id, span_id, site_id, end_rank)
  SELECT d.trace_id, d.span_id, d.site_id, -1
  FROM ROWS FROM (json_to_recordset(deltas) AS (trace_id uuid, span_id bigint, site_id smallint))
    WITH ORDINALITY AS d (trace_id, span_id, site_id, nth)
  ORDER BY d.nth
  ON CONFLICT (trace_id, span_id, site_id) DO UPDATE SET changed_xid = excluded.changed_xid WHERE false;

  WITH delta AS MATERIALIZED (
    SELECT
      trace_id, span_id, site_id, end_rank, final_fields, start_time, start_unix_ns, end_unix_ns, last_sign_unix_ns,
      received_unix_ns, nominal_unix_ns, deadline_unix_ns, expected_duration_s, heartbeat_interval_s, cpu_s,
      memory_bytes, attempt, parent_span_id, process_key, inferred, job, run_id, parent_run_id, feed_id, service,
      service_version, trigger, owner, equipment, recipe, product, lot_ids, substrate_ids, result, error_type,
      progress_unix_ns, progress_ratio, progress_completed, progress_total, progress_unit, progress_stage,
      progress_message, attributes
    FROM json_to_recordset(deltas) AS d (
      trace_id uuid, span_id bigint, site_id smallint, end_rank smallint, final_fields bigint, start_time timestamptz,
      start_unix_ns bigint, end_unix_ns bigint, last_sign_unix_ns bigint, received_unix_ns bigint,
      nominal_unix_ns bigint, deadline_unix_ns bigint, expected_duration_s double precision,
      heartbeat_interval_s double precision, cpu_s double precision, memory_bytes bigint, attempt bigint,
      parent_span_id bigint, process_key uuid, inferred boolean, job text COLLATE "C", run_id text COLLATE "C",
      parent_run_id text COLLATE "C", feed_id text COLLATE "C", service text COLLATE "C",
      service_version text COLLATE "C", trigger text COLLATE "C", owner text COLLATE "C", equipment text COLLATE "C",
      recipe text COLLATE "C", product text COLLATE "C", lot_ids text[] COLLATE "C", substrate_ids text[] COLLATE "C",
      result text COLLATE "C", error_type text COLLATE "C", progress_unix_ns bigint, progress_ratio double precision,
      progress_completed double precision, progress_total double precision, progress_unit text COLLATE "C",
      progress_stage text COLLATE "C", progress_message text COLLATE "C", attributes text COLLATE "C"
    )
  ), version AS (
    SELECT * FROM delta
    UNION ALL
    SELECT
      o.trace_id, o.span_id, o.site_id, o.end_rank, o.final_fields, o.start_time, o.start_unix_ns, o.end_unix_ns,
      o.last_sign_unix_ns, o.received_unix_ns, o.nominal_unix_ns, o.deadline_unix_ns, o.expected_duration_s,
      o.heartbeat_interval_s, o.cpu_s, o.memory_bytes, o.attempt, o.parent_span_id, o.process_key, o.inferred, o.job,
      o.run_id, o.parent_run_id, o.feed_id, o.service, o.service_version, o.trigger, o.owner, o.equipment, o.recipe,
      o.product, o.lot_ids, o.substrate_ids, o.result, o.error_type, o.progress_unix_ns, o.progress_ratio,
      o.progress_completed, o.progress_total, o.progress_unit, o.progress_stage, o.progress_message,
      o.attributes::text COLLATE "C"
    FROM delta d JOIN wafer_data.run_open o USING (trace_id, span_id, site_id)
    WHERE o.end_rank >= 0
    UNION ALL
    SELECT
      r.trace_id, r.span_id, r.site_id, r.end_rank, r.final_fields, r.start_time, r.start_unix_ns, r.end_unix_ns,
      r.last_sign_unix_ns, r.received_unix_ns, r.nominal_unix_ns, r.deadline_unix_ns, r.expected_duration_s,
      r.heartbeat_interval_s, r.cpu_s, r.memory_bytes, r.attempt, r.parent_span_id, r.process_key, r.inferred, r.job,
      r.run_id, r.parent_run_id, r.feed_id, r.service, r.service_version, r.trigger, r.owner, r.equipment, r.recipe,
      r.product, r.lot_ids, r.substrate_ids, r.result, r.error_type, r.progress_unix_ns, r.progress_ratio,
      r.progress_completed, r.progress_total, r.progress_unit, r.progress_stage, r.progress_message,
      r.attributes::text COLLATE "C"
    FROM delta d JOIN wafer_data.run r USING (trace_id, span_id, site_id)
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
      coalesce(max(attributes) FILTER (WHERE final_fields & 524288 <> 0), max(attributes))::json AS attributes
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
  ), moved AS (
    DELETE FROM wafer_data.run r USING merged m
    WHERE (r.trace_id, r.span_id, r.site_id) = (m.trace_id, m.span_id, m.site_id)
      AND (m.end_rank = 0 OR r.start_time <> m.start_time)
  ), closed AS (
    DELETE FROM wafer_data.run_open o USING merged m
    WHERE (o.trace_id, o.span_id, o.site_id) = (m.trace_id, m.span_id, m.site_id) AND m.end_rank > 0
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
  )
  INSERT INTO wafer_data.run_open (
    trace_id, span_id, site_id, end_rank, final_fields, start_time, start_unix_ns, end_unix_ns, last_sign_unix_ns,
    received_unix_ns, nominal_unix_ns, deadline_unix_ns, expected_duration_s, heartbeat_interval_s, cpu_s, memory_bytes,
    attempt, parent_span_id, process_key, inferred, job, run_id, parent_run_id, feed_id, service, service_version,
    trigger, owner, equipment, recipe, product, lot_ids, substrate_ids, result, error_type, progress_unix_ns,
    progress_ratio, progress_completed, progress_total, progress_unit, progress_stage, progress_message, attributes
  )
  SELECT
    trace_id, span_id, site_id, end_rank, final_fields, start_time, start_unix_ns, end_unix_ns, last_sign_unix_ns,
    received_unix_ns, nominal_unix_ns, deadline_unix_ns, expected_duration_s, heartbeat_interval_s, cpu_s, memory_bytes,
    attempt, parent_span_id, process_key, inferred, job, run_id, parent_run_id, feed_id, service, service_version,
    trigger, owner, equipment, recipe, product, lot_ids, substrate_ids, result, error_type, progress_unix_ns,
    progress_ratio, progress_completed, progress_total, progress_unit, progress_stage, progress_message, attributes
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
    attributes = excluded.attributes;
END
$$;

-- A ghost is a run that stands in run_open and in run. No writer leaves one; a restored backup or a foreign hand may.
-- Merging with a delta that says nothing joins both rows in the place where they belong. Returns how many there were.
CREATE OR REPLACE FUNCTION wafer_data.sweep_ghosts() RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
  ghosts json;
BEGIN
  SELECT json_agg(json_build_object(
    'trace_id', o.trace_id, 'span_id', o.span_id, 'site_id', o.site_id, 'end_rank', 0, 'final_fields', 0, 'inferred', true
  ) ORDER BY s.name, o.trace_id, int8send(o.span_id)) INTO ghosts
  FROM wafer_data.run_open o JOIN wafer_data.site s USING (site_id)
  WHERE o.end_rank > 0
    OR EXISTS (SELECT FROM wafer_data.run r WHERE (r.trace_id, r.span_id, r.site_id) = (o.trace_id, o.span_id, o.site_id));
  IF ghosts IS NULL THEN
    RETURN 0;
  END IF;
  PERFORM wafer_data.merge_runs(ghosts);
  RETURN json_array_length(ghosts);
END
$$;
