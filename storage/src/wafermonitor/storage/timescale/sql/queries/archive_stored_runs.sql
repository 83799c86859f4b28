-- Days before $1 on which a run started that has ended and stands in the partition of its month.
SELECT DISTINCT (start_time AT TIME ZONE 'UTC')::date AS day
FROM wafer_data.run WHERE start_time > '-infinity' AND start_time < ($1::date)::timestamp AT TIME ZONE 'UTC' ORDER BY 1
