SELECT coalesce($1::bigint, wafer_data.now_ns()) AS now_ns
