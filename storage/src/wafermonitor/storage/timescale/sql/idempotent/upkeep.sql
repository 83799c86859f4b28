-- The steps of maintenance that are more than a statement. Tables and indexes are the owner's; whoever maintains needs to be no more
-- than wafer_writer.

-- Statistics of up to `at_most` tables that changed by a fifth since they were made, or never had any; of partitioned tables, which
-- autovacuum leaves out, once a day. Answers their names.
CREATE OR REPLACE FUNCTION wafer_data.analyze_stale(at_most integer) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  stale record;
BEGIN
  FOR stale IN
    SELECT c.oid::regclass::text AS name
    FROM pg_class c LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid
    WHERE c.relnamespace = 'wafer_data'::regnamespace AND (
      (c.relkind = 'r' AND s.n_mod_since_analyze > 1000 + 0.2 * s.n_live_tup)
      OR (c.relkind = 'p' AND coalesce(s.last_analyze, '-infinity') < now() - interval '1 day')
    )
    ORDER BY c.relkind DESC, s.n_mod_since_analyze DESC NULLS LAST
    LIMIT at_most
  LOOP
    EXECUTE format('ANALYZE %s', stale.name);
    RETURN NEXT stale.name;
  END LOOP;
END
$$;

-- B-tree indexes of 64 MiB or more that take more than twice and a half what their entries need, by the planner's statistics.
CREATE OR REPLACE VIEW wafer_data.bloated_index AS
SELECT
  i.indexrelid::regclass::text AS name, pg_relation_size(i.indexrelid) AS bytes,
  pg_relation_size(i.indexrelid)::double precision / greatest(needed.bytes, 1) AS ratio
FROM pg_index i
JOIN pg_class x ON x.oid = i.indexrelid
JOIN pg_class t ON t.oid = i.indrelid
JOIN pg_am m ON m.oid = x.relam AND m.amname = 'btree'
CROSS JOIN LATERAL (
  -- An entry: its columns, 8 bytes of head and 4 of place; pages are filled to nine tenths.
  SELECT x.reltuples * (12 + coalesce(sum(coalesce(s.avg_width, nullif(a.attlen, -1), 32)), 8)) / 0.9 AS bytes
  FROM pg_attribute a
  LEFT JOIN pg_stats s ON s.schemaname = 'wafer_data' AND s.tablename = t.relname AND s.attname = a.attname
  WHERE a.attrelid = t.oid AND a.attnum = ANY (i.indkey)
) needed
WHERE t.relnamespace = 'wafer_data'::regnamespace AND x.relkind = 'i' AND x.reltuples > 0
  AND pg_relation_size(i.indexrelid) >= 64 * 1024 * 1024
  AND pg_relation_size(i.indexrelid) > 2.5 * needed.bytes;

-- Drop a day that ended before `before`, or a month of runs that ended before `runs_before`, archived or not: for a store whose operator
-- has switched the archive off and said how long to keep rows. Answers what was dropped; null when nothing is left, and old late rows are
-- deleted, and runs of months that are gone which never told their end. One at a time, because each holds locks until its transaction ends. What the archive has of it, from a time when it was
-- on, the archive answers for from then on. As in `drop_archived`, the lock of the rollups' state comes before that of all merging.
DROP FUNCTION IF EXISTS wafer_data.drop_unarchived(date, date);
CREATE FUNCTION wafer_data.drop_unarchived(before date, runs_before date) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET lock_timeout = '5s' AS $$
DECLARE
  kept wafer_data.day_table;
  old record;
BEGIN
  FOR kept IN SELECT * FROM wafer_data.day_table LOOP
    FOR old IN SELECT d.day FROM wafer_data.stored_days(kept.name) d WHERE d.day < before ORDER BY d.day LOOP
      IF wafer_data.drop_day(kept.name, old.day) THEN
        PERFORM wafer_data.let_archive_answer(kept.name, old.day, old.day);
        RETURN format('%s %s', kept.name, old.day);
      END IF;
    END LOOP;
  END LOOP;
  FOR old IN SELECT m AS month FROM wafer_data.stored_months() m WHERE (m + interval '1 month')::date <= runs_before ORDER BY m LOOP
    PERFORM FROM wafer_data.rollup_state FOR UPDATE;
    PERFORM wafer_data.lock_runs();
    IF NOT wafer_data.raise_horizon((old.month + interval '1 month')::timestamptz) THEN
      EXIT; -- the rollups do not have all of it yet, nor of later months
    END IF;
    EXECUTE format('DROP TABLE wafer_data.%I', 'run' || to_char(old.month, '_YYYYMM'));
    PERFORM wafer_data.let_archive_answer('run', old.month, (old.month + interval '1 month')::date - 1);
    RETURN format('run %s', to_char(old.month, 'YYYY-MM'));
  END LOOP;
  FOR kept IN SELECT * FROM wafer_data.day_table LOOP
    EXECUTE format('DELETE FROM %s WHERE %I < $1', kept.late, kept.time_column) USING before::timestamptz;
  END LOOP;
  DELETE FROM wafer_data.run_open o
  WHERE o.start_time < runs_before::timestamptz AND wafer_data.silent_since(
    o, (SELECT p.beat_unix_ns FROM wafer_data.process p WHERE p.process_key = o.process_key), runs_before
  );
  RETURN NULL;
END
$$;

-- Days of a table that the store has dropped, of which the archive may have files: all of the day, or those of some sites, where it was
-- switched off in the midst of a round.
CREATE OR REPLACE FUNCTION wafer_data.let_archive_answer(parent text, first date, last date) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
  WITH named AS (
    SELECT CASE parent WHEN 'span' THEN 'spans' WHEN 'log_record' THEN 'logs' WHEN 'metric_point' THEN 'metrics' ELSE 'runs' END AS signal
  )
  INSERT INTO wafer_data.archive_day AS d (signal, day, dropped_at, dropped_version)
  SELECT n.signal, m.day, now(), (SELECT coalesce(max(greatest(a.version, a.retired_version)), 0) FROM wafer_data.archive_manifest a)
  FROM named n, LATERAL (
    SELECT k.day FROM wafer_data.archive_day k WHERE k.signal = n.signal AND k.day BETWEEN first AND last
    UNION SELECT f.day FROM wafer_data.archive_manifest f
    WHERE f.signal = n.signal AND f.day BETWEEN first AND last AND f.retired_version IS NULL
  ) m
  ON CONFLICT (signal, day) DO UPDATE SET dropped_at = excluded.dropped_at, dropped_version = excluded.dropped_version, kept_until = NULL
  WHERE d.dropped_at IS NULL
$$;

-- Rollups and entries of the log that are older than they are kept, but for the last of each step. Answers how many rollups went.
CREATE OR REPLACE FUNCTION wafer_data.forget_rollups(before timestamptz, log_before timestamptz) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
  rollup text;
  gone bigint;
  total bigint := 0;
BEGIN
  FOREACH rollup IN ARRAY ARRAY['job_hourly', 'job_daily', 'job_weekly', 'job_monthly'] LOOP
    EXECUTE format('DELETE FROM wafer_data.%I WHERE dimension = ANY (''{0,1,2,3,4}'') AND bucket < $1', rollup) USING before;
    GET DIAGNOSTICS gone = ROW_COUNT;
    total := total + gone;
  END LOOP;
  DELETE FROM wafer_data.maintenance_log l WHERE l.ended_time < log_before
    AND l.log_id < (SELECT max(m.log_id) FROM wafer_data.maintenance_log m WHERE m.step = l.step);
  RETURN total;
END
$$;

REVOKE ALL ON FUNCTION wafer_data.analyze_stale(integer), wafer_data.drop_unarchived(date, date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION wafer_data.analyze_stale(integer), wafer_data.drop_unarchived(date, date) TO wafer_writer;
