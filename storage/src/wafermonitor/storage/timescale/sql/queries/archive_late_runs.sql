-- Runs whose month has no table: because it was dropped; and, unless $1 is null, of months before it that never had one, which are
-- before the horizon of the rollups, that count them no more. At most $2, but none of sites $3 on days $4.
SELECT r.*, s.name AS site, p.beat_unix_ns AS process_beat_unix_ns, p.interval_s AS process_interval_s, 'ended' AS state, false AS overdue
FROM wafer_data.run_default r
JOIN wafer_data.site s ON s.site_id = r.site_id
LEFT JOIN wafer_data.process p ON p.process_key = r.process_key
WHERE r.start_time > '-infinity'
  AND (
    r.start_time < least(($1::date)::timestamp AT TIME ZONE 'UTC', (SELECT h.horizon FROM wafer_data.rollup_state h)) AND $1 IS NOT NULL
    OR EXISTS (
      SELECT FROM wafer_data.archive_day d WHERE d.signal = 'runs' AND d.dropped_at IS NOT NULL
        AND date_trunc('month', d.day::timestamp) = date_trunc('month', r.start_time AT TIME ZONE 'UTC')
    )
  )
  AND NOT EXISTS (
    SELECT FROM unnest($3::text[], $4::date[]) AS without (site, day)
    WHERE without.site = s.name AND without.day = (r.start_time AT TIME ZONE 'UTC')::date
  )
LIMIT $2
