-- What must exist before the first migration: roles, schemas, and the list of what has run. Applied before every upgrade.
--
-- Roles belong to the whole server, so another database's upgrade may make them at the same moment.
DO $$
DECLARE
  role text;
  -- From 16 on whoever makes a role is a member of it that may give it away, but may not act as it before it is granted.
  able constant text := CASE WHEN pg_catalog.current_setting('server_version_num')::integer < 160000 THEN 'MEMBER' ELSE 'SET' END;
BEGIN
  FOREACH role IN ARRAY ARRAY['wafer_owner', 'wafer_writer', 'wafer_reader'] LOOP
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = role) THEN
      BEGIN
        EXECUTE format('CREATE ROLE %I NOLOGIN', role);
      EXCEPTION WHEN duplicate_object OR unique_violation THEN
        NULL;
      END;
    END IF;
  END LOOP;
  -- Whoever upgrades must be able to act as the owner; a superuser is it already.
  IF NOT pg_catalog.pg_has_role(current_user, 'wafer_owner', able) THEN
    GRANT wafer_owner TO CURRENT_USER;
  END IF;
END
$$;

DO $$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['wafer_data', 'wafer'] LOOP
    IF pg_catalog.to_regnamespace(name) IS NULL THEN
      EXECUTE format('CREATE SCHEMA %I AUTHORIZATION wafer_owner', name);
    END IF;
  END LOOP;
END
$$;

-- Writers stage what they have heard of runs in a temporary table. Everybody may make one, unless that was taken away.
DO $$
BEGIN
  IF NOT pg_catalog.has_database_privilege('wafer_writer', pg_catalog.current_database(), 'TEMPORARY') THEN
    BEGIN
      EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO wafer_writer', pg_catalog.current_database());
    EXCEPTION WHEN insufficient_privilege THEN
      NULL;
    END;
    IF NOT pg_catalog.has_database_privilege('wafer_writer', pg_catalog.current_database(), 'TEMPORARY') THEN
      RAISE invalid_grantor USING MESSAGE = format('GRANT TEMPORARY ON DATABASE %I TO wafer_writer', pg_catalog.current_database());
    END IF;
  END IF;
END
$$;

-- The functions of TimescaleDB are called by their full names; the schema they were made in may be one that is not open to all.
DO $$
DECLARE
  place name;
BEGIN
  SELECT n.nspname INTO place
  FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
  WHERE e.extname = 'timescaledb' AND NOT (
    pg_catalog.has_schema_privilege('wafer_owner', n.oid, 'USAGE') AND pg_catalog.has_schema_privilege('wafer_writer', n.oid, 'USAGE')
    AND pg_catalog.has_schema_privilege('wafer_reader', n.oid, 'USAGE')
  );
  IF place IS NOT NULL THEN
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO wafer_owner, wafer_writer, wafer_reader', place);
  END IF;
END
$$;

SET LOCAL ROLE wafer_owner;

CREATE TABLE IF NOT EXISTS wafer_data.schema_migration (
  name        text COLLATE "C" PRIMARY KEY,
  sha256      text NOT NULL,
  release     text NOT NULL,
  applied_at  timestamptz NOT NULL DEFAULT now()
);

GRANT USAGE ON SCHEMA wafer_data, wafer TO wafer_writer, wafer_reader;
GRANT SELECT ON wafer_data.schema_migration TO wafer_writer, wafer_reader;
-- Tables, views and sequences that migrations make are given out as they are made.
ALTER DEFAULT PRIVILEGES FOR ROLE wafer_owner IN SCHEMA wafer_data GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO wafer_writer;
ALTER DEFAULT PRIVILEGES FOR ROLE wafer_owner IN SCHEMA wafer_data GRANT USAGE ON SEQUENCES TO wafer_writer;
ALTER DEFAULT PRIVILEGES FOR ROLE wafer_owner IN SCHEMA wafer_data GRANT SELECT ON TABLES TO wafer_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE wafer_owner IN SCHEMA wafer GRANT SELECT ON TABLES TO wafer_writer, wafer_reader;

RESET ROLE;
