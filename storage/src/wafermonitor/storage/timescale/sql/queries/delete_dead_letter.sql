DELETE FROM wafer_data.dead_letter WHERE key = $1::bytea RETURNING true
