-- Runs that were written after the month of their start was dropped, at most $1.
SELECT r.*, s.name AS site, p.beat_unix_ns AS process_beat_unix_ns, p.interval_s AS process_interval_s, 'ended' AS state, false AS overdue
FROM wafer_data.run_default r
JOIN wafer_data.archive_day d ON d.signal = 'runs' AND d.day = (r.start_time AT TIME ZONE 'UTC')::date AND d.dropped_at IS NOT NULL
JOIN wafer_data.site s ON s.site_id = r.site_id
LEFT JOIN wafer_data.process p ON p.process_key = r.process_key
WHERE r.start_time > '-infinity'
LIMIT $1
