-- Every file, with the state in which its day was dropped.
SELECT m.*, d.dropped_version, d.kept_until
FROM wafer_data.archive_manifest m LEFT JOIN wafer_data.archive_day d ON d.signal = m.signal AND d.day = m.day
WHERE m.retired_version IS NULL
ORDER BY m.signal, m.day, m.site, m.version, m.path
