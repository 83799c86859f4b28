UPDATE wafer_data.archive_day SET dropped_at = NULL, dropped_version = NULL, kept_until = $3::date WHERE signal = $1::text AND day = $2::date
