-- Ended runs of a site ($1) that started from $2 to before $3, with the last beat of their process, in the order of the archive.
SELECT r.*, s.name AS site, p.beat_unix_ns AS process_beat_unix_ns, p.interval_s AS process_interval_s, 'ended' AS state, false AS overdue
FROM wafer_data.run r
JOIN wafer_data.site s ON s.site_id = r.site_id
LEFT JOIN wafer_data.process p ON p.process_key = r.process_key
WHERE s.name = $1 AND r.start_time >= $2::timestamptz AND r.start_time < $3::timestamptz
ORDER BY r.trace_id, int8send(r.span_id)
