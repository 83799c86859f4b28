UPDATE wafer_data.dead_letter SET retries = retries + 1, retried_unix_ns = $2::bigint, answer = $3::text WHERE key = $1::bytea RETURNING true
