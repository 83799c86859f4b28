-- Which libraries are loaded is told to few accounts only; the extension's loader has a setting of its own.
SELECT
  (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb') AS version,
  (SELECT default_version FROM pg_available_extensions WHERE name = 'timescaledb') AS available,
  current_setting('timescaledb.license', true) AS license,
  CASE WHEN pg_has_role('pg_read_all_settings', 'USAGE')
    THEN 'timescaledb' = ANY (string_to_array(replace(replace(current_setting('shared_preload_libraries'), ' ', ''), '$libdir/', ''), ','))
    ELSE current_setting('timescaledb.max_background_workers', true) IS NOT NULL
  END AS preloaded
