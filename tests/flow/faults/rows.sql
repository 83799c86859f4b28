-- What the store holds of one run's trace: kind of row, how many rows, of how many distinct runs. $1: the run's label.
WITH traces AS (SELECT DISTINCT trace_id::uuid AS trace_id FROM wafer.job_run WHERE run_id = $1)
SELECT 'span' AS kind, count(*) AS rows, count(DISTINCT span_id) AS runs
FROM wafer_data.span WHERE trace_id IN (SELECT trace_id FROM traces)
HAVING count(*) > 0
UNION ALL
SELECT event_name, count(*), count(DISTINCT span_id)
FROM wafer_data.log_record
WHERE trace_id IN (SELECT trace_id FROM traces) AND event_name IN ('wafer.job.start', 'wafer.job.end')
GROUP BY event_name
