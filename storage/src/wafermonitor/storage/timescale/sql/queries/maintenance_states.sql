SELECT
  step, failing, last_report, failed_rounds, extract(epoch FROM last_time)::double precision AS last_s,
  extract(epoch FROM last_success_time)::double precision AS last_success_s
FROM wafer.maintenance_status
