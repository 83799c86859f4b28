-- Months of runs before $1 that have a table without a row: every run of them is open, gone, or never was.
SELECT m AS month
FROM wafer_data.stored_months() m
WHERE m < $1::date AND NOT EXISTS (
  SELECT FROM wafer_data.run r
  WHERE r.start_time >= m::timestamp AT TIME ZONE 'UTC' AND r.start_time < (m + interval '1 month') AT TIME ZONE 'UTC'
)
