-- Files that there are now of a day ($2) of a signal ($1).
SELECT m.*, d.dropped_version, d.kept_until
FROM wafer_data.archive_manifest m LEFT JOIN wafer_data.archive_day d ON d.signal = m.signal AND d.day = m.day
WHERE m.signal = $1::text AND m.day = $2::date AND m.retired_version IS NULL
ORDER BY m.site, m.version, m.path
