-- The runs of one service ($1) as far as the model knows them.
SELECT replace(trace_id::text, '-', '') AS trace_id, start_unix_ns, end_unix_ns, result, progress_ratio
FROM wafer_data.known_run
WHERE service = $1
