-- Runs of months before $1 that have no table are about to leave for the archive: their hours stay as they are rolled up by now.
SELECT wafer_data.raise_horizon((date_trunc('month', last.start_time AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC')
FROM (
  SELECT max(r.start_time) AS start_time FROM wafer_data.run_default r
  WHERE r.start_time > '-infinity' AND r.start_time < ($1::date)::timestamp AT TIME ZONE 'UTC'
) last
WHERE last.start_time >= (SELECT h.horizon FROM wafer_data.rollup_state h)
