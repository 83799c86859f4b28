-- What differs between plain PostgreSQL and TimescaleDB: how days are kept, dropped and made small. Callers need not know which it is.
--
-- span, log_record and metric_point are native partitions by day, or hypertables with a chunk by day once TimescaleDB is there
-- (`wafer storage convert`, or a schema that was made with it). `run` stays native: a run whose start is not known stands at
-- -infinity, which no chunk takes, and its start may move.
--
-- Everything of TimescaleDB is called by EXECUTE, because these functions are also made where it is absent, and by its catalog it
-- is known what may be called: the Apache edition answers some functions with an error, one of them with a crash.

-- plain, apache or community.
CREATE OR REPLACE FUNCTION wafer_data.tier() RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN CASE
  WHEN NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') THEN 'plain'
  WHEN current_setting('timescaledb.license', true) = 'timescale' THEN 'community'
  ELSE 'apache'
END;

-- The name of one of TimescaleDB's functions with the schema that the extension was made in.
CREATE OR REPLACE FUNCTION wafer_data.timescaledb(function_name text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN (
  SELECT format('%I.%I', n.nspname, function_name) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'timescaledb'
);

-- Partitions that `make_hypertable` took off their table and whose rows are still to be moved, the newest day first.
CREATE OR REPLACE VIEW wafer_data.unmoved_partition AS
SELECT t.name AS parent, c.oid::regclass AS partition, c.relname AS name, to_date(right(c.relname, 8), 'YYYYMMDD') AS day,
  greatest(c.reltuples, 0)::bigint AS rows_estimated, pg_total_relation_size(c.oid) AS bytes
FROM wafer_data.day_table t JOIN pg_catalog.pg_inherits i ON i.inhparent = t.late JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
ORDER BY day DESC, parent;

-- What others have made that would go with a table when it is made anew: views and functions that read it, also through a view of
-- ours; foreign keys, triggers, policies, publications.
CREATE OR REPLACE FUNCTION wafer_data.foreign_dependants(parent text) RETURNS SETOF text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  WITH RECURSIVE dependant (classid, objid) AS (
    SELECT 'pg_class'::regclass::oid, format('wafer_data.%I', parent)::regclass::oid
    UNION
    SELECT next.classid, next.objid
    FROM dependant d CROSS JOIN LATERAL (
      SELECT p.classid, p.objid FROM pg_depend p WHERE p.refclassid = d.classid AND p.refobjid = d.objid AND p.deptype IN ('n', 'a', 'i')
      UNION ALL
      SELECT 'pg_class'::regclass, r.ev_class FROM pg_rewrite r WHERE d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
    ) next
  ), named AS (
    SELECT DISTINCT i.type, i.schema, i.identity, d.classid
    FROM dependant d CROSS JOIN LATERAL pg_identify_object(d.classid, d.objid, 0) i
    LEFT JOIN pg_trigger t ON d.classid = 'pg_trigger'::regclass AND t.oid = d.objid
    LEFT JOIN pg_constraint c ON d.classid = 'pg_constraint'::regclass AND c.oid = d.objid
    WHERE NOT coalesce(t.tgisinternal OR t.tgparentid <> 0, false)
      AND (d.classid <> 'pg_constraint'::regclass OR (c.contype = 'f' AND c.conparentid = 0))
  )
  SELECT format('%s %s', type, identity) FROM named
  WHERE classid IN ('pg_constraint'::regclass, 'pg_trigger'::regclass, 'pg_policy'::regclass, 'pg_publication_rel'::regclass)
    OR (classid IN ('pg_class'::regclass, 'pg_proc'::regclass) AND schema NOT IN ('wafer', 'wafer_data', 'pg_toast'))
  ORDER BY 1
$$;

-- Make the native table `parent` a hypertable of the same name, under a lock that holds as long as the catalog takes (milliseconds).
-- Its partitions become children of the late table, where every reader finds their rows; rows that a redelivery stores once more
-- meanwhile are read once, as with every late row. Nothing is copied here. False when it is a hypertable already.
--
-- What reads the table in the schemas `wafer` and `wafer_data` is dropped with it: whoever calls makes it again (idempotent files). What
-- others made is not: it is named, and nothing is changed.
CREATE OR REPLACE FUNCTION wafer_data.make_hypertable(parent text) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  parent_table constant regclass := format('wafer_data.%I', parent)::regclass;
  table_of_days wafer_data.day_table;
  child record;
  filled boolean;
  columns text;
  definitions text[];
  rights text[];
  foreign_names text;
BEGIN
  SELECT * INTO STRICT table_of_days FROM wafer_data.day_table WHERE name = parent;
  IF table_of_days.is_hypertable THEN
    RETURN false;
  END IF;
  EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', parent_table);
  SELECT string_agg(f, ', ') INTO foreign_names FROM wafer_data.foreign_dependants(parent) f;
  IF foreign_names IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist', MESSAGE = format('%s would be dropped with wafer_data.%s', foreign_names, parent);
  END IF;
  -- The days that are ready stay ready.
  INSERT INTO wafer_data.hot_day (day)
  SELECT day::date FROM wafer_data.hot_window() w CROSS JOIN generate_series(w.oldest, w.newest - interval '1 day', interval '1 day') AS day
  ON CONFLICT DO NOTHING;

  SELECT array_agg(replace(pg_get_indexdef(indexrelid), ' ON ONLY ', ' ON ') ORDER BY indexrelid) INTO definitions
  FROM pg_index WHERE indrelid = parent_table;
  SELECT array_agg(format('GRANT %s ON %s TO %s', a.privilege_type, parent_table, coalesce(nullif(a.grantee, 0)::regrole::text, 'PUBLIC')))
  INTO rights
  FROM pg_class c CROSS JOIN aclexplode(c.relacl) a WHERE c.oid = parent_table AND a.grantee <> c.relowner;
  SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) INTO columns
  FROM pg_attribute WHERE attrelid = parent_table AND attnum > 0 AND NOT attisdropped AND attgenerated = '';

  FOR child IN
    SELECT i.inhrelid::regclass AS name, i.inhrelid = p.partdefid AS is_default
    FROM pg_inherits i JOIN pg_partitioned_table p ON p.partrelid = i.inhparent
    WHERE i.inhparent = parent_table ORDER BY i.inhrelid
  LOOP
    EXECUTE format('SELECT EXISTS (SELECT FROM %s)', child.name) INTO filled;
    EXECUTE format('ALTER TABLE %s DETACH PARTITION %s', parent_table, child.name);
    IF filled AND NOT child.is_default THEN
      EXECUTE format('ALTER TABLE %s INHERIT %s', child.name, table_of_days.late);
      CONTINUE;
    ELSIF filled THEN
      EXECUTE format(
        'INSERT INTO %1$s (%2$s) SELECT %2$s FROM %3$s ON CONFLICT DO NOTHING', table_of_days.late, columns, child.name
      );
    END IF;
    EXECUTE format('DROP TABLE %s', child.name);
  END LOOP;

  EXECUTE format(
    'CREATE TABLE wafer_data.%I (LIKE %s INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING CONSTRAINTS INCLUDING STORAGE INCLUDING COMPRESSION)',
    parent || '_made', parent_table
  );
  EXECUTE format('DROP TABLE %s CASCADE', parent_table);
  EXECUTE format('ALTER TABLE wafer_data.%I RENAME TO %I', parent || '_made', parent);
  EXECUTE format(
    'SELECT FROM %s(%L, %s(%L, interval ''1 day''), create_default_indexes => false)',
    wafer_data.timescaledb('create_hypertable'), format('wafer_data.%I', parent),
    wafer_data.timescaledb('by_range'), table_of_days.time_column
  );
  FOR n IN 1 .. cardinality(definitions) LOOP
    EXECUTE definitions[n];
  END LOOP;
  FOR n IN 1 .. coalesce(cardinality(rights), 0) LOOP
    EXECUTE rights[n];
  END LOOP;
  RETURN true;
END
$$;

-- Move the rows in `pages` pages of a partition that was taken off, from `first_page` on, into the hypertable, and answer how many. One
-- transaction, so that a row is always in one of both.
CREATE OR REPLACE FUNCTION wafer_data.move_rows(parent text, partition text, first_page bigint, pages bigint) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  columns text;
  keys text;
  moved bigint;
BEGIN
  SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) INTO STRICT columns
  FROM pg_attribute
  WHERE attrelid = format('wafer_data.%I', parent)::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '';
  -- In the order of the key, as writers insert what they redeliver: they then wait for each other and not in a circle.
  SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY k.place) INTO STRICT keys
  FROM pg_index i CROSS JOIN unnest(i.indkey::smallint[]) WITH ORDINALITY AS k (attnum, place)
  JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
  WHERE i.indrelid = format('wafer_data.%I', parent)::regclass AND i.indisunique;
  EXECUTE format(
    'WITH moved AS (DELETE FROM ONLY wafer_data.%1$I WHERE ctid >= $1 AND ctid < $2 RETURNING %2$s),
     stored AS (INSERT INTO wafer_data.%3$I (%2$s) SELECT %2$s FROM moved ORDER BY %4$s ON CONFLICT DO NOTHING)
     SELECT count(*) FROM moved',
    partition, columns, parent, keys
  ) INTO moved USING format('(%s,0)', first_page)::tid, format('(%s,0)', first_page + pages)::tid;
  RETURN moved;
END
$$;

-- Drop a partition that was taken off and emptied; false when it holds a row after all.
CREATE OR REPLACE FUNCTION wafer_data.drop_empty(partition text) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  filled boolean;
BEGIN
  EXECUTE format('LOCK TABLE wafer_data.%I IN ACCESS EXCLUSIVE MODE', partition);
  EXECUTE format('SELECT EXISTS (SELECT FROM wafer_data.%I)', partition) INTO filled;
  IF NOT filled THEN
    EXECUTE format('DROP TABLE wafer_data.%I', partition);
  END IF;
  RETURN NOT filled;
END
$$;

-- Drop what is stored of one day in one of the tables by day, late rows aside. False when there was nothing. Whoever calls knows that the
-- day is archived, and has made sure that nobody writes it (see hot_window).
CREATE OR REPLACE FUNCTION wafer_data.drop_day(parent text, day date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  table_of_days wafer_data.day_table;
  partition constant text := format('%s_%s', parent, to_char(day, 'YYYYMMDD'));
  dropped boolean := false;
  chunks bigint;
BEGIN
  SELECT * INTO STRICT table_of_days FROM wafer_data.day_table WHERE name = parent;
  IF to_regclass(format('wafer_data.%I', partition)) IS NOT NULL THEN
    EXECUTE format('DROP TABLE wafer_data.%I', partition);
    dropped := true;
  END IF;
  IF table_of_days.is_hypertable THEN
    DELETE FROM wafer_data.hot_day h WHERE h.day = drop_day.day;
    EXECUTE format('SELECT count(*) FROM %s(%L, older_than => $1, newer_than => $2)', wafer_data.timescaledb('drop_chunks'), table_of_days.hot)
      INTO chunks USING (day + 1)::timestamptz, day::timestamptz;
    dropped := dropped OR chunks > 0;
  END IF;
  RETURN dropped;
END
$$;

-- Community edition only, else nothing: set up compression where it is not, and close days that ended before `before`, so that late rows
-- of theirs go to the late tables and no writer ever waits for a chunk that is being compressed.
CREATE OR REPLACE FUNCTION wafer_data.close_days(before timestamptz) RETURNS SETOF date
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  plain_table wafer_data.day_table;
BEGIN
  IF wafer_data.tier() <> 'community' THEN
    RETURN;
  END IF;
  FOR plain_table IN
    EXECUTE 'SELECT t.* FROM wafer_data.day_table t WHERE t.is_hypertable AND NOT EXISTS (
      SELECT FROM timescaledb_information.hypertables h
      WHERE h.hypertable_schema = ''wafer_data'' AND h.hypertable_name = t.name AND h.compression_enabled
    )'
  LOOP
    EXECUTE format(
      'ALTER TABLE %s SET (timescaledb.compress, timescaledb.compress_segmentby = %L, timescaledb.compress_orderby = %L)',
      plain_table.hot, plain_table.segment_column, plain_table.time_column || ' DESC'
    );
  END LOOP;
  RETURN QUERY UPDATE wafer_data.hot_day SET closed_at = clock_timestamp()
  WHERE closed_at IS NULL AND (day + 1)::timestamptz <= before RETURNING day;
END
$$;

-- Compress the newest chunk whose day was closed at least `settled` ago (writers have noticed by then) and is whole, or holds rows that
-- came since it was compressed; its name, null when there is none. One transaction of its own: it may take minutes. Readers are not held up.
CREATE OR REPLACE FUNCTION wafer_data.compress_next(settled interval DEFAULT '3 min') RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  chunk text;
BEGIN
  IF wafer_data.tier() <> 'community' THEN
    RETURN NULL;
  END IF;
  EXECUTE
    'SELECT format(''%I.%I'', c.chunk_schema, c.chunk_name)
     FROM timescaledb_information.chunks c
     JOIN wafer_data.day_table t ON t.name = c.hypertable_name
     WHERE c.hypertable_schema = ''wafer_data'' AND (
         NOT c.is_compressed
         -- 8: rows came in since, of a writer that had not heard of it or of a redelivery.
         OR _timescaledb_functions.chunk_status(format(''%I.%I'', c.chunk_schema, c.chunk_name)::regclass) & 8 <> 0
       )
       AND c.range_end <= (SELECT max(h.day + 1)::timestamptz FROM wafer_data.hot_day h WHERE h.closed_at <= clock_timestamp() - $1)
       AND NOT EXISTS (
         SELECT FROM wafer_data.unmoved_partition u WHERE u.parent = t.name AND u.day::timestamptz < c.range_end AND (u.day + 1)::timestamptz > c.range_start
       )
     ORDER BY c.range_end DESC, t.name LIMIT 1'
    INTO chunk USING settled;
  IF chunk IS NOT NULL THEN
    -- Half the work of PostgreSQL's own way for a twentieth more room, where the server was built with it.
    IF 'lz4' = ANY ((SELECT enumvals FROM pg_settings WHERE name = 'default_toast_compression')::text[]) THEN
      PERFORM set_config('default_toast_compression', 'lz4', true);
    END IF;
    EXECUTE format('SELECT %s(%L, if_not_compressed => true)', wafer_data.timescaledb('compress_chunk'), chunk);
  END IF;
  RETURN chunk;
END
$$;

REVOKE ALL ON FUNCTION wafer_data.foreign_dependants(text), wafer_data.make_hypertable(text), wafer_data.move_rows(text, text, bigint, bigint), wafer_data.drop_empty(text), wafer_data.drop_day(text, date),
  wafer_data.close_days(timestamptz), wafer_data.compress_next(interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION wafer_data.drop_day(text, date), wafer_data.close_days(timestamptz), wafer_data.compress_next(interval) TO wafer_writer;
