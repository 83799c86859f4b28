-- The archive holds these days whole; $3: the store has no table of them, so that the archive answers at once, from state $4 on.
INSERT INTO wafer_data.archive_day AS d (signal, day, dropped_at, dropped_version)
SELECT $1::text, day, CASE WHEN $3::boolean THEN now() END, CASE WHEN $3 THEN $4::bigint END FROM unnest($2::date[]) AS g (day)
ON CONFLICT (signal, day) DO UPDATE SET dropped_at = excluded.dropped_at, dropped_version = excluded.dropped_version, kept_until = NULL
WHERE $3 AND d.dropped_at IS NULL
