-- Age in seconds of the oldest open transaction of others in this database, 0 without one.
SELECT coalesce(extract(epoch FROM max(clock_timestamp() - xact_start)), 0)::double precision
FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
