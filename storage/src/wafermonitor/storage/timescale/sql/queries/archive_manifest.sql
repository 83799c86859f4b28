-- Files that a reader of state $1 uses, with the state in which their day was dropped; a day that was dropped later has the files that it has now.
SELECT m.*, d.dropped_version, d.kept_until
FROM wafer_data.archive_manifest m LEFT JOIN wafer_data.archive_day d ON d.signal = m.signal AND d.day = m.day
WHERE CASE WHEN d.dropped_version <= $1::bigint
  THEN m.version <= $1 AND (m.retired_version IS NULL OR m.retired_version > $1)
  ELSE m.retired_version IS NULL
END
ORDER BY m.signal, m.day, m.site, m.version, m.path
