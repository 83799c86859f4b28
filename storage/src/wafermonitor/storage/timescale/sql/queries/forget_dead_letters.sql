DELETE FROM wafer_data.dead_letter WHERE received_unix_ns < $1::bigint
