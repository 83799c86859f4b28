-- The store answers for the days from $2 to $3 again, and they do not leave it before $4.
UPDATE wafer_data.archive_day SET dropped_at = NULL, dropped_version = NULL, kept_until = $4::date
WHERE signal = $1::text AND day >= $2::date AND day <= $3::date
