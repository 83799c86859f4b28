-- The leader's session: whoever stops in the middle of a tick, with a connection that lives on, lets others lead
-- after five minutes; a tick is silent for seconds.
SELECT set_config('idle_session_timeout', '300s', false), set_config('idle_in_transaction_session_timeout', '60s', false),
  set_config('tcp_keepalives_idle', '30', false), set_config('tcp_keepalives_interval', '10', false), set_config('tcp_keepalives_count', '3', false),
  pg_try_advisory_lock($1) AS leads
