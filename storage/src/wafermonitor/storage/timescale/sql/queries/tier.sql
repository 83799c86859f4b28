SELECT
  (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb') AS version,
  (SELECT default_version FROM pg_available_extensions WHERE name = 'timescaledb') AS available,
  current_setting('timescaledb.license', true) AS license,
  'timescaledb' = ANY (string_to_array(replace(replace(current_setting('shared_preload_libraries'), ' ', ''), '$libdir/', ''), ',')) AS preloaded
