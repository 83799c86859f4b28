UPDATE wafer_data.archive_day SET dropped_at = now(), dropped_version = $4::bigint, kept_until = NULL
WHERE signal = $1::text AND day >= $2::date AND day <= $3::date AND dropped_at IS NULL
