-- Files of dropped days that a reader of state $1 uses: of signal $2, of sites $3, on days from $4 to $5, with rows from $6 to $7 (ns), null:
-- any. The newest day first, at most $8. A day that was dropped after that state has the files that it has now.
SELECT m.*, d.dropped_version, d.kept_until
FROM wafer_data.archive_manifest m JOIN wafer_data.archive_day d ON d.signal = m.signal AND d.day = m.day
WHERE m.signal = $2::text AND d.dropped_version IS NOT NULL
  AND ($3::text[] IS NULL OR m.site = ANY ($3))
  AND ($4::date IS NULL OR m.day >= $4) AND ($5::date IS NULL OR m.day <= $5)
  AND ($6::bigint IS NULL OR m.to_unix_ns >= $6) AND ($7::bigint IS NULL OR m.from_unix_ns <= $7)
  AND CASE WHEN d.dropped_version <= $1::bigint
    THEN m.version <= $1 AND (m.retired_version IS NULL OR m.retired_version > $1)
    ELSE m.retired_version IS NULL
  END
ORDER BY m.day DESC, m.site, m.version, m.path
LIMIT $8
