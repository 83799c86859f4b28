-- `origin`: numbers of transactions mean something on this server, on this timeline of it (a restored or promoted server begins another),
-- in this database.
SELECT
  s.system_identifier || '.' || c.timeline_id || '.' || (SELECT oid FROM pg_database WHERE datname = current_database()) AS origin,
  pg_current_snapshot()::text AS snapshot
FROM pg_control_system() s CROSS JOIN pg_control_checkpoint() c
