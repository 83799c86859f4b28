-- Every run of one service ($1) as readers see it.
SELECT replace(trace_id::text, '-', '') AS trace_id, span_id, job, start_unix_ns AS start_ns, end_unix_ns AS end_ns, end_rank
FROM wafer_data.known_run
WHERE service = $1
