-- A name's number is remembered by every writer, so it must outlive a crash even where the server is told not to wait for the disk.
SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'
