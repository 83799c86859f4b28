-- `origin`: numbers of transactions mean something on this server, on this timeline of it (a promoted server begins another), in this
-- database, and until a backup is brought back by `wafer storage restore`, which begins no timeline. The control file learns of a
-- promotion with the first checkpoint after it, the names of new WAL files at once.
SELECT
  s.system_identifier || '.'
  || CASE WHEN pg_is_in_recovery() THEN c.timeline_id ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer END || '.'
  || (SELECT oid FROM pg_database WHERE datname = current_database())
  || coalesce('.' || nullif(current_setting('wafer.restored_unix_ns', true), ''), '') AS origin,
  pg_current_snapshot()::text AS snapshot
FROM pg_control_system() s CROSS JOIN pg_control_checkpoint() c
