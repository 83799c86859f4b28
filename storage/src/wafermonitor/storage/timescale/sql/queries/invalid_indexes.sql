-- In our schemas, and on the chunks of our hypertables.
SELECT i.indexrelid::regclass::text AS name
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE NOT (i.indisvalid AND i.indisready)
  AND (c.relnamespace = ANY (ARRAY['wafer', 'wafer_data']::regnamespace[]) OR c.relnamespace = to_regnamespace('_timescaledb_internal'))
ORDER BY name
