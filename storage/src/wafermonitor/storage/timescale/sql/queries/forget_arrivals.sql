DELETE FROM wafer_data.arrival WHERE arrived_unix_ns < $1::bigint
