-- Which names (resource, scope, metric_series) no row can have any more. Called by maintenance, which deletes them.
--
-- A row and its name: a writer uses a number only if it has asked for it within 12 hours, and begins its transaction at most 6 hours later
-- (dictionary.py, writer.py); the server ends a transaction that falls silent. Who asks notes the day on the name (`seen`) in the
-- statement that answers, and before any row has the number. So a row that was written on day W has names seen on W - 1 or later.
-- Rows that are stored by day: of a day D in the hot window, which ends 10 days after W at the latest. While the oldest stored day is O, D >= O,
-- W >= O - 10, and the names of all of these rows were seen on O - 11 or later. Rows of a day that came back from the archive were
-- written when it came back, and make O only older.
-- Rows that are stored apart (late tables, DEFAULT partitions) are of any day: their names are looked up.
-- Names seen before least(O, today) - 16 go. The 5 days that this is more than needed are for what is not written here, such as a transaction
-- of a stopped process; one that can be seen in pg_stat_activity counts like a stored day.
-- A series keeps its resource and its scope. Whoever deletes looks at `seen` again when it has the row's lock, and skips rows that are locked;
-- a writer that finds its name deleted at that moment makes it anew, under another number.

-- Without any stored day there are no rows by day: the other bounds hold.
CREATE OR REPLACE FUNCTION wafer_data.names_before(today date) RETURNS date
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  stored constant date := (SELECT min(d.day) FROM wafer_data.day_table t CROSS JOIN LATERAL wafer_data.stored_days(t.name) d);
  begun constant date := (
    SELECT (min(a.xact_start) AT TIME ZONE 'UTC')::date FROM pg_stat_activity a WHERE a.datname = current_database()
  );
BEGIN
  RETURN least(stored, begun, today, (now() AT TIME ZONE 'UTC')::date) - 16;
END
$$;

-- The numbers that rows of the late tables and DEFAULT partitions have. One snapshot: a row may be on its way from one to the other.
CREATE OR REPLACE FUNCTION wafer_data.names_apart(OUT series integer[], OUT resources integer[], OUT scopes integer[])
LANGUAGE plpgsql STABLE AS $$
DECLARE
  points constant text := 'SELECT series_id FROM wafer_data.metric_late';
  others text := 'SELECT resource_id, scope_id FROM wafer_data.span_late UNION SELECT resource_id, scope_id FROM wafer_data.log_late';
  parted text := '';
  stray text;
BEGIN
  IF to_regclass('wafer_data.metric_point_default') IS NOT NULL THEN
    parted := ' UNION SELECT series_id FROM wafer_data.metric_point_default';
  END IF;
  FOREACH stray IN ARRAY ARRAY['span_default', 'log_record_default'] LOOP
    IF to_regclass('wafer_data.' || stray) IS NOT NULL THEN
      others := others || format(' UNION SELECT resource_id, scope_id FROM wafer_data.%I', stray);
    END IF;
  END LOOP;
  EXECUTE format(
    'WITH o AS MATERIALIZED (%s) SELECT ARRAY(SELECT series_id FROM (%s) p), ARRAY(SELECT DISTINCT resource_id FROM o), ARRAY(SELECT DISTINCT scope_id FROM o)',
    others, points || parted
  ) INTO series, resources, scopes;
END
$$;
