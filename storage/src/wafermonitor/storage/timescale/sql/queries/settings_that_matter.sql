-- As the server has them, whatever this session was given. max_wal_size is in MB.
SELECT name, reset_val AS setting FROM pg_settings WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit', 'max_wal_size')
