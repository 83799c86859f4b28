-- Partitions are made ahead of the rows. Days and months are UTC, as the whole store is.
--
-- SECURITY DEFINER: the receiver keeps partitions, and its login needs to be no more than wafer_writer.

-- Where the rows of a table by day go when their day is not ready, and which column tells the day.
CREATE OR REPLACE VIEW wafer_data.day_table AS
SELECT c.oid::regclass AS hot, t.name, t.late::regclass AS late, t.time_column, t.segment_column, c.relkind = 'r' AS is_hypertable
FROM (
  VALUES ('span', 'wafer_data.span_late', 'start_time', 'site_id'),
    ('log_record', 'wafer_data.log_late', 'time', 'site_id'),
    ('metric_point', 'wafer_data.metric_late', 'time', 'series_id')
) AS t (name, late, time_column, segment_column)
JOIN pg_catalog.pg_class c ON c.relname = t.name AND c.relnamespace = 'wafer_data'::regnamespace;

-- Make `partition` of `parent` for [lower_time, upper_time), with the rows that the DEFAULT partition took for it meanwhile.
-- False when it is there already. ATTACH, because CREATE … PARTITION OF would lock the parent against every writer and reader.
CREATE OR REPLACE FUNCTION wafer_data.add_partition(parent text, partition text, lower_time timestamptz, upper_time timestamptz)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  parent_table constant regclass := format('wafer_data.%I', parent)::regclass;
  default_table regclass;
  time_column text;
  columns text;
BEGIN
  IF to_regclass(format('wafer_data.%I', partition)) IS NOT NULL THEN
    RETURN false;
  END IF;
  SELECT nullif(p.partdefid, 0)::regclass, a.attname INTO STRICT default_table, time_column
  FROM pg_partitioned_table p JOIN pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0]
  WHERE p.partrelid = parent_table;

  EXECUTE format(
    'CREATE TABLE wafer_data.%I (LIKE %s INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING CONSTRAINTS INCLUDING STORAGE)',
    partition, parent_table
  );
  IF default_table IS NOT NULL THEN
    SELECT string_agg(quote_ident(attname), ', ') INTO columns
    FROM pg_attribute WHERE attrelid = parent_table AND attnum > 0 AND NOT attisdropped AND attgenerated = '';
    -- The lock that ATTACH would take anyway, taken before rows are moved instead of in between.
    EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', default_table);
    EXECUTE format(
      'WITH moved AS (DELETE FROM %1$s WHERE %2$I >= $1 AND %2$I < $2 RETURNING %3$s) INSERT INTO wafer_data.%4$I (%3$s) SELECT * FROM moved',
      default_table, time_column, columns, partition
    ) USING lower_time, upper_time;
  END IF;
  EXECUTE format(
    'ALTER TABLE %s ATTACH PARTITION wafer_data.%I FOR VALUES FROM (%L) TO (%L)', parent_table, partition, lower_time, upper_time
  );
  RETURN true;
END
$$;

-- Every partitioned table gets what it lacks: `run` months from `oldest_month`, the others days from `oldest_day`, all up to and
-- including the newest day; days that are fenced because they are archived are not made again. Answers the names of what was made.
-- Hypertables make their own chunks, for any day; what they get is the list of the days that may have one (hot_day).
CREATE OR REPLACE FUNCTION wafer_data.keep_partitions(oldest_day date, newest_day date, oldest_month date)
RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  fence constant date := coalesce((SELECT value::date FROM wafer_data.setting WHERE name = 'fenced_before'), '-infinity');
  wanted record;
BEGIN
  FOR wanted IN
    SELECT c.relname AS parent, c.relname || to_char(lower_day, CASE c.relname WHEN 'run' THEN '_YYYYMM' ELSE '_YYYYMMDD' END) AS partition,
           lower_day::timestamptz AS lower_time,
           (lower_day + CASE c.relname WHEN 'run' THEN interval '1 month' ELSE interval '1 day' END)::timestamptz AS upper_time
    FROM pg_partitioned_table p
    JOIN pg_class c ON c.oid = p.partrelid
    CROSS JOIN LATERAL generate_series(
      CASE c.relname WHEN 'run' THEN date_trunc('month', oldest_month::timestamp) ELSE oldest_day::timestamp END,
      newest_day::timestamp,
      CASE c.relname WHEN 'run' THEN interval '1 month' ELSE interval '1 day' END
    ) AS lower_day
    WHERE c.relnamespace = 'wafer_data'::regnamespace AND p.partstrat = 'r' AND (c.relname = 'run' OR lower_day::date >= fence)
    ORDER BY lower_day DESC, parent
  LOOP
    IF wafer_data.add_partition(wanted.parent, wanted.partition, wanted.lower_time, wanted.upper_time) THEN
      RETURN NEXT wanted.partition;
    END IF;
  END LOOP;
  IF EXISTS (SELECT FROM wafer_data.day_table WHERE is_hypertable) THEN
    RETURN QUERY WITH made AS (
      INSERT INTO wafer_data.hot_day (day) SELECT generate_series(greatest(oldest_day, fence), newest_day, interval '1 day')::date
      ON CONFLICT DO NOTHING RETURNING day
    ) SELECT to_char(day, '"day_"YYYYMMDD') FROM made ORDER BY day DESC;
  END IF;
END
$$;

-- [oldest, newest): the unbroken stretch of days around `today`, not fenced, for which every table by day has its partition, or for a
-- hypertable the day is listed and not closed; else the newest such stretch. A row outside belongs into a *_late table. Both null
-- before the first day is made. Around today, because a clock that was wrong for a moment may have had days made that are years ahead; and
-- never more than ten days ahead of today, whatever is prepared: how long names are kept goes by that (names.sql).
DROP FUNCTION IF EXISTS wafer_data.hot_window();
CREATE OR REPLACE FUNCTION wafer_data.hot_window(
  today date DEFAULT (now() AT TIME ZONE 'UTC')::date, OUT oldest timestamptz, OUT newest timestamptz
)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
BEGIN
  WITH ready AS (
    SELECT t.name, to_date(right(child.relname, 8), 'YYYYMMDD') AS day
    FROM wafer_data.day_table t JOIN pg_inherits i ON i.inhparent = t.hot JOIN pg_class child ON child.oid = i.inhrelid
    WHERE NOT t.is_hypertable AND child.relname ~ '_[0-9]{8}$'
    UNION ALL
    SELECT t.name, h.day FROM wafer_data.day_table t CROSS JOIN wafer_data.hot_day h WHERE t.is_hypertable AND h.closed_at IS NULL
  ), complete AS (
    SELECT day FROM ready
    WHERE day >= coalesce((SELECT value::date FROM wafer_data.setting WHERE name = 'fenced_before'), '-infinity')
    GROUP BY day HAVING count(*) = (SELECT count(*) FROM wafer_data.day_table)
  ), stretch AS (
    SELECT day, day - row_number() OVER (ORDER BY day)::integer AS stretch FROM complete
  )
  SELECT min(day)::timestamptz, (CASE WHEN today BETWEEN min(day) AND max(day) THEN least(max(day), today + 10) ELSE max(day) END + 1)::timestamptz
  INTO oldest, newest FROM stretch
  GROUP BY stretch.stretch ORDER BY today BETWEEN min(day) AND max(day) DESC, max(day) DESC LIMIT 1;
END
$$;

REVOKE ALL ON FUNCTION wafer_data.add_partition(text, text, timestamptz, timestamptz) FROM PUBLIC;
REVOKE ALL ON FUNCTION wafer_data.keep_partitions(date, date, date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION wafer_data.keep_partitions(date, date, date) TO wafer_writer;

-- DEFAULT partitions that hold a row though the writer puts rows outside the hot window elsewhere: something is wrong. That of
-- `run` may hold rows: runs whose start is unknown or outside every month.
CREATE OR REPLACE FUNCTION wafer_data.stray_partitions() RETURNS SETOF text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  watched record;
  stray boolean;
BEGIN
  FOR watched IN
    SELECT p.partdefid::regclass AS partition, d.relname AS name
    FROM pg_partitioned_table p JOIN pg_class c ON c.oid = p.partrelid JOIN pg_class d ON d.oid = p.partdefid
    WHERE c.relnamespace = 'wafer_data'::regnamespace AND c.relname <> 'run'
    ORDER BY d.relname
  LOOP
    EXECUTE format('SELECT EXISTS (SELECT FROM %s)', watched.partition) INTO stray;
    IF stray THEN
      RETURN NEXT watched.name;
    END IF;
  END LOOP;
END
$$;
