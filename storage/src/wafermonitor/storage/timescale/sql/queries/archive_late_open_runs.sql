-- Runs that never told their end, of months that have left the store. Unless $1 is null only those that gave no sign since then, nor did
-- their process; those also of months before it that never had a table. At most $2, but none of sites $3 on days $4.
SELECT o.*, s.name AS site, p.beat_unix_ns AS process_beat_unix_ns, p.interval_s AS process_interval_s, 'running' AS state, false AS overdue
FROM wafer_data.run_open o
JOIN wafer_data.site s ON s.site_id = o.site_id
LEFT JOIN wafer_data.process p ON p.process_key = o.process_key
WHERE o.start_time > '-infinity' AND o.end_rank = 0
  AND o.start_time < coalesce(
    ($1::date)::timestamp,
    (SELECT max(d.day) + 1 FROM wafer_data.archive_day d WHERE d.signal = 'runs' AND d.dropped_at IS NOT NULL)
  ) AT TIME ZONE 'UTC'
  AND CASE
    WHEN $1 IS NULL THEN EXISTS (
      SELECT FROM wafer_data.archive_day d
      WHERE d.signal = 'runs' AND d.dropped_at IS NOT NULL AND d.day = (o.start_time AT TIME ZONE 'UTC')::date
    )
    ELSE wafer_data.silent_since(o, p.beat_unix_ns, $1)
  END
  AND NOT EXISTS (
    SELECT FROM unnest($3::text[], $4::date[]) AS without (site, day)
    WHERE without.site = s.name AND without.day = (o.start_time AT TIME ZONE 'UTC')::date
  )
LIMIT $2
