-- How a day leaves the store, and comes back. Called by the archiver, one at a time.

-- The first day that is not fenced: rows before it are late, whoever writes them.
CREATE OR REPLACE FUNCTION wafer_data.fenced_before() RETURNS date
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce((SELECT value::date FROM wafer_data.setting WHERE name = 'fenced_before'), '-infinity')
$$;

-- The fence never goes back, and by no clock but the server's does it come closer than yesterday.
CREATE OR REPLACE FUNCTION wafer_data.fence_days(before_day date) RETURNS date
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
  UPDATE wafer_data.setting
  SET value = greatest(value::date, least(before_day, (now() AT TIME ZONE 'UTC')::date - 1))::text
  WHERE name = 'fenced_before'
  RETURNING value::date
$$;

-- Days of a table by day that have a partition or a chunk. `settled`: false while `wafer storage convert` still moves rows of the day.
CREATE OR REPLACE FUNCTION wafer_data.stored_days(parent text) RETURNS TABLE (day date, settled boolean)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
BEGIN
  IF EXISTS (SELECT FROM wafer_data.day_table t WHERE t.name = parent AND t.is_hypertable) THEN
    RETURN QUERY EXECUTE
      'SELECT d.day, NOT EXISTS (SELECT FROM wafer_data.unmoved_partition u WHERE u.parent = $1 AND u.day = d.day)
       FROM (
         SELECT range_start::date AS day FROM timescaledb_information.chunks WHERE hypertable_schema = ''wafer_data'' AND hypertable_name = $1
         UNION SELECT u.day FROM wafer_data.unmoved_partition u WHERE u.parent = $1
       ) d ORDER BY 1'
    USING parent;
  ELSE
    RETURN QUERY
    SELECT to_date(right(child.relname, 8), 'YYYYMMDD'), true
    FROM pg_inherits i JOIN pg_class child ON child.oid = i.inhrelid
    WHERE i.inhparent = format('wafer_data.%I', parent)::regclass AND child.relname ~ '_[0-9]{8}$'
    ORDER BY 1;
  END IF;
END
$$;

-- Months of runs that have a partition.
CREATE OR REPLACE FUNCTION wafer_data.stored_months() RETURNS SETOF date
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT to_date(right(child.relname, 6), 'YYYYMM')
  FROM pg_inherits i JOIN pg_class child ON child.oid = i.inhrelid
  WHERE i.inhparent = 'wafer_data.run'::regclass AND child.relname ~ '_[0-9]{6}$'
  ORDER BY 1
$$;

-- A writer that had not yet heard of the fence may have put a row of a dropped day into a DEFAULT partition, or into a new chunk of a
-- hypertable.
CREATE OR REPLACE FUNCTION wafer_data.move_strays() RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  watched record;
  moved bigint;
  total bigint := 0;
BEGIN
  FOR watched IN
    SELECT * FROM (VALUES ('span_default', 'span_late', 'start_time'), ('log_record_default', 'log_late', 'time'),
                          ('metric_point_default', 'metric_late', 'time')) AS w (stray, late, time_column)
    WHERE to_regclass('wafer_data.' || stray) IS NOT NULL
  LOOP
    EXECUTE format(
      'WITH moved AS (DELETE FROM wafer_data.%1$I WHERE %2$I < $1 RETURNING *) INSERT INTO wafer_data.%3$I SELECT * FROM moved ON CONFLICT DO NOTHING',
      watched.stray, watched.time_column, watched.late
    ) USING wafer_data.fenced_before()::timestamptz;
    GET DIAGNOSTICS moved = ROW_COUNT;
    total := total + moved;
  END LOOP;
  FOR watched IN
    SELECT t.name, t.late, t.time_column, a.day
    FROM wafer_data.day_table t
    JOIN (VALUES ('span', 'spans'), ('log_record', 'logs'), ('metric_point', 'metrics')) AS s (name, signal) USING (name)
    JOIN wafer_data.archive_day a ON a.signal = s.signal AND a.dropped_at IS NOT NULL
    JOIN LATERAL wafer_data.stored_days(t.name) d ON d.day = a.day AND d.settled
    WHERE t.is_hypertable
  LOOP
    EXECUTE format(
      'WITH moved AS (DELETE FROM wafer_data.%1$I WHERE %2$I >= $1 AND %2$I < $2 RETURNING *) INSERT INTO %3$s SELECT * FROM moved ON CONFLICT DO NOTHING',
      watched.name, watched.time_column, watched.late
    ) USING watched.day::timestamptz, (watched.day + 1)::timestamptz;
    GET DIAGNOSTICS moved = ROW_COUNT;
    total := total + moved;
    PERFORM wafer_data.drop_archived(watched.name, watched.day, '0');
  END LOOP;
  RETURN total;
END
$$;

-- Whether an open run may leave: it began before `before`, in a month without a table, and neither it nor its process (`beat`) gave a sign
-- since. It may end, or be heard of, later: what comes then is merged with what the archive has, like late runs that ended.
CREATE OR REPLACE FUNCTION wafer_data.silent_since(run wafer_data.run_open, beat_unix_ns bigint, before date) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT run.start_time > '-infinity' AND run.start_time < before::timestamp AT TIME ZONE 'UTC'
    AND greatest(run.start_unix_ns, run.last_sign_unix_ns, run.received_unix_ns, beat_unix_ns)
      < (extract(epoch FROM before) * 1000000000)::bigint
    AND to_regclass('wafer_data.run' || to_char(run.start_time AT TIME ZONE 'UTC', '_YYYYMM')) IS NULL
$$;

-- What tells whether a day, or a month of runs, still holds what it held: its number of rows, which are only added; runs change, so
-- behind it stands the snapshot that saw them. Null when there is nothing of it.
CREATE OR REPLACE FUNCTION wafer_data.fingerprint(parent text, day date) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  month constant text := 'run' || to_char(day, '_YYYYMM');
  found text;
BEGIN
  IF parent <> 'run' THEN
    EXECUTE format(
      'SELECT CASE WHEN EXISTS (SELECT FROM wafer_data.stored_days(%1$L) d WHERE d.day = $1) THEN (
         SELECT count(*)::text FROM wafer_data.%1$I WHERE %2$I >= $1::timestamptz AND %2$I < ($1 + 1)::timestamptz
       ) END', parent, (SELECT t.time_column FROM wafer_data.day_table t WHERE t.name = parent)
    ) INTO found USING day;
  ELSIF to_regclass('wafer_data.' || month) IS NOT NULL THEN
    EXECUTE format('SELECT count(*) || '' '' || pg_current_snapshot() FROM wafer_data.%I', month) INTO found;
  END IF;
  RETURN found;
END
$$;

-- Whether a run of a month was merged after a snapshot was taken. By the index of changed_xid, so that it takes no time.
CREATE OR REPLACE FUNCTION wafer_data.runs_changed(month text, since pg_snapshot) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  changed boolean;
BEGIN
  EXECUTE format(
    'SELECT EXISTS (SELECT FROM wafer_data.%I WHERE changed_xid >= pg_snapshot_xmin(%L) AND NOT pg_visible_in_snapshot(changed_xid, %L))',
    month, since, since
  ) INTO changed;
  RETURN changed;
END
$$;

-- Drop a day, or a month of runs, whose fingerprint is still the one given; false when it is not. Writers are kept out while it is looked
-- at, readers only for the drop itself. A month is counted before anybody waits: under the lock of all merging only what came since
-- then is looked for. The lock of the rollups' state first: whoever rolls up may hold it for long, and merging must not wait for that.
CREATE OR REPLACE FUNCTION wafer_data.drop_archived(parent text, day date, wanted text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  month constant text := 'run' || to_char(day, '_YYYYMM');
  part regclass;
  now_there text;
BEGIN
  IF parent = 'run' THEN
    now_there := wafer_data.fingerprint(parent, day);
    IF now_there IS NULL OR split_part(now_there, ' ', 1) <> split_part(wanted, ' ', 1)
      OR wafer_data.runs_changed(month, split_part(wanted, ' ', 2)::pg_snapshot)
    THEN
      RETURN false;
    END IF;
    PERFORM FROM wafer_data.rollup_state FOR UPDATE;
    PERFORM wafer_data.lock_runs();
    EXECUTE format('LOCK TABLE wafer_data.%I IN SHARE MODE', month);
    IF wafer_data.runs_changed(month, split_part(now_there, ' ', 2)::pg_snapshot)
      OR NOT wafer_data.raise_horizon((day + interval '1 month')::timestamptz)
    THEN
      RETURN false; -- changed, or the rollups do not have all of it yet
    END IF;
    EXECUTE format('DROP TABLE wafer_data.%I', month);
    RETURN true;
  END IF;
  IF EXISTS (SELECT FROM wafer_data.day_table t WHERE t.name = parent AND t.is_hypertable) THEN
    FOR part IN
      EXECUTE format('SELECT * FROM %s($1, older_than => $2, newer_than => $3)', wafer_data.timescaledb('show_chunks'))
      USING format('wafer_data.%I', parent)::regclass, (day + 1)::timestamptz, day::timestamptz
    LOOP
      EXECUTE format('LOCK TABLE %s IN SHARE MODE', part);
    END LOOP;
  ELSE
    EXECUTE format('LOCK TABLE wafer_data.%I IN SHARE MODE', parent || to_char(day, '_YYYYMMDD'));
  END IF;
  RETURN wafer_data.fingerprint(parent, day) IS NOT DISTINCT FROM wanted AND wafer_data.drop_day(parent, day);
END
$$;

-- The partition of a day, or of a month of runs: its name, its bounds, and the table in which it is made.
CREATE OR REPLACE FUNCTION wafer_data.partition_of(
  parent text, day date, OUT partition text, OUT made text, OUT time_column text, OUT lower_time timestamptz, OUT upper_time timestamptz
)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
BEGIN
  made := 'restored_' || parent;
  IF parent = 'run' THEN
    lower_time := date_trunc('month', day::timestamptz);
    SELECT 'run' || to_char(lower_time, '_YYYYMM'), 'start_time', lower_time + interval '1 month' INTO partition, time_column, upper_time;
  ELSE
    SELECT parent || to_char(day, '_YYYYMMDD'), t.time_column, day::timestamptz, (day + 1)::timestamptz
    INTO partition, time_column, lower_time, upper_time FROM wafer_data.day_table t WHERE t.name = parent;
  END IF;
END
$$;

-- The columns that are stored of a table by day, or of runs.
CREATE OR REPLACE FUNCTION wafer_data.stored_columns(parent text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
  WHERE attrelid = format('wafer_data.%I', parent)::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
$$;

-- An empty table beside `parent` that a restored day, or month of runs, is copied to; what a killed restore left is thrown away. It has
-- the indexes and the bounds that the partition will need, so that nothing has to be made or looked at under the locks of the end.
CREATE OR REPLACE FUNCTION wafer_data.prepare_restore(parent text, day date) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  part record;
BEGIN
  IF parent NOT IN ('span', 'log_record', 'metric_point', 'run') THEN
    RAISE EXCEPTION '% has no days', parent;
  END IF;
  SELECT * INTO part FROM wafer_data.partition_of(parent, day);
  EXECUTE format('DROP TABLE IF EXISTS wafer_data.%I', part.made);
  EXECUTE format(
    'CREATE TABLE wafer_data.%I (
       LIKE wafer_data.%I INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING CONSTRAINTS INCLUDING STORAGE INCLUDING INDEXES,
       CONSTRAINT restored_bounds CHECK (%3$I IS NOT NULL AND %3$I >= %4$L AND %3$I < %5$L)
     )', part.made, parent, part.time_column, part.lower_time, part.upper_time
  );
  RETURN part.made;
END
$$;

-- Throw away what a killed restore left. Called by the one archiver that there is; a backup that reads it just now is not waited for.
CREATE OR REPLACE FUNCTION wafer_data.forget_restore() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
  parent text;
BEGIN
  FOREACH parent IN ARRAY ARRAY['span', 'log_record', 'metric_point', 'run'] LOOP
    IF to_regclass(format('wafer_data.%I', 'restored_' || parent)) IS NOT NULL THEN
      EXECUTE format('DROP TABLE wafer_data.%I', 'restored_' || parent);
    END IF;
  END LOOP;
END
$$;

-- The table of `prepare_restore` becomes the partition again, or fills the chunk. What the DEFAULT partition took meanwhile moves there.
-- Locks that keep others out are held for as long as that takes; writers are kept out of nothing.
CREATE OR REPLACE FUNCTION wafer_data.finish_restore(parent text, day date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  part record;
  columns constant text := wafer_data.stored_columns(parent);
BEGIN
  SELECT * INTO part FROM wafer_data.partition_of(parent, day);
  -- Whoever asked the store before this and asks the manifest after it must ask both again.
  INSERT INTO wafer_data.setting AS s (name, value, description) VALUES ('archive_restores', '1', 'how often a day came back from the archive')
  ON CONFLICT (name) DO UPDATE SET value = (s.value::bigint + 1)::text;
  IF to_regclass(format('wafer_data.%I', part.partition)) IS NOT NULL
    OR EXISTS (SELECT FROM wafer_data.day_table t WHERE t.name = parent AND t.is_hypertable)
  THEN
    EXECUTE format('INSERT INTO wafer_data.%1$I (%3$s) SELECT %3$s FROM wafer_data.%2$I ON CONFLICT DO NOTHING', parent, part.made, columns);
    EXECUTE format('DROP TABLE wafer_data.%I', part.made);
    RETURN;
  END IF;
  EXECUTE format('LOCK TABLE wafer_data.%I IN ACCESS EXCLUSIVE MODE', parent || '_default');
  EXECUTE format(
    'WITH moved AS (DELETE FROM wafer_data.%I WHERE %2$I >= $1 AND %2$I < $2 RETURNING %3$s)
     INSERT INTO wafer_data.%4$I (%3$s) SELECT * FROM moved ON CONFLICT DO NOTHING', parent || '_default', part.time_column, columns, part.made
  ) USING part.lower_time, part.upper_time;
  EXECUTE format('ALTER TABLE wafer_data.%I RENAME TO %I', part.made, part.partition);
  EXECUTE format(
    'ALTER TABLE wafer_data.%I ATTACH PARTITION wafer_data.%I FOR VALUES FROM (%L) TO (%L)',
    parent, part.partition, part.lower_time, part.upper_time
  );
  EXECUTE format('ALTER TABLE wafer_data.%I DROP CONSTRAINT restored_bounds', part.partition);
END
$$;

-- The same for a month of runs. A run that came again meanwhile says more than the archive: both are merged, as a writer merges. Runs
-- that never told their end go back to the open ones. No
-- rollup counts a run that comes back: all of it lies before the horizon, and no run of the archive is newer than any snapshot.
-- Run by the caller's own role: the tables of a merge are its session's.
CREATE OR REPLACE FUNCTION wafer_data.finish_restore_runs(day date) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
  part record;
  columns text;
BEGIN
  SELECT * INTO part FROM wafer_data.partition_of('run', day);
  PERFORM wafer_data.lock_runs();
  PERFORM wafer_data.stage_runs();
  SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) INTO columns FROM pg_attribute
  WHERE attrelid = 'pg_temp.run_delta'::regclass AND attnum > 0 AND NOT attisdropped;
  EXECUTE format(
    'WITH moved AS (DELETE FROM wafer_data.run_default WHERE start_time >= $1 AND start_time < $2 RETURNING %1$s)
     INSERT INTO pg_temp.run_delta (%1$s) SELECT * FROM moved', columns
  ) USING part.lower_time, part.upper_time;
  EXECUTE format(
    'WITH moved AS (DELETE FROM wafer_data.%2$I WHERE end_rank = 0 RETURNING %1$s) INSERT INTO pg_temp.run_delta (%1$s) SELECT * FROM moved',
    columns, part.made
  );
  PERFORM wafer_data.finish_restore('run', day);
  PERFORM wafer_data.merge_runs(everywhere => true);
END
$$;

REVOKE ALL ON FUNCTION wafer_data.fence_days(date), wafer_data.move_strays(), wafer_data.stored_days(text), wafer_data.fingerprint(text, date),
  wafer_data.runs_changed(text, pg_snapshot), wafer_data.drop_archived(text, date, text),
  wafer_data.prepare_restore(text, date), wafer_data.forget_restore(), wafer_data.finish_restore(text, date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION wafer_data.fence_days(date), wafer_data.move_strays(), wafer_data.stored_days(text), wafer_data.fingerprint(text, date),
  wafer_data.runs_changed(text, pg_snapshot), wafer_data.drop_archived(text, date, text),
  wafer_data.prepare_restore(text, date), wafer_data.forget_restore(), wafer_data.finish_restore(text, date) TO wafer_writer;
