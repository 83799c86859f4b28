-- Whatever the database's default is: after the lock of the runs a statement must see what was committed meanwhile.
BEGIN ISOLATION LEVEL READ COMMITTED;
-- A writer whose host or link is gone holds the locks of its rows; nobody else may have to wait for TCP's two hours.
SET LOCAL idle_in_transaction_session_timeout = '60s';
SET LOCAL tcp_keepalives_idle = 30;
SET LOCAL tcp_keepalives_interval = 10;
SET LOCAL tcp_keepalives_count = 3;
-- An acknowledgement means that it is on disk, even where the server is told not to wait for that.
SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'
