-- Files of dropped days: of signal $1, of sites $2, on days from $3 to $4, with rows from $5 to $6 (ns), null: any. The newest day first,
-- at most $7.
SELECT m.*, d.dropped_version, d.kept_until
FROM wafer_data.archive_manifest m JOIN wafer_data.archive_day d ON d.signal = m.signal AND d.day = m.day
WHERE m.signal = $1::text AND d.dropped_version IS NOT NULL AND m.retired_version IS NULL
  AND ($2::text[] IS NULL OR m.site = ANY ($2))
  AND ($3::date IS NULL OR m.day >= $3) AND ($4::date IS NULL OR m.day <= $4)
  AND ($5::bigint IS NULL OR m.to_unix_ns >= $5) AND ($6::bigint IS NULL OR m.from_unix_ns <= $6)
ORDER BY m.day DESC, m.site, m.version, m.path
LIMIT $7
