-- Each step of maintenance that ever ran: seconds since it last succeeded, whether that is too long, whether its last round failed.
SELECT
  step, failing, late,
  greatest(extract(epoch FROM clock_timestamp() - last_success_time)::double precision, 0) AS age_s
FROM wafer.maintenance_status ORDER BY step
