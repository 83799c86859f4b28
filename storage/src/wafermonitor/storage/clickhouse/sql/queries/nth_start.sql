SELECT start_ns FROM run_start WHERE start_ns BETWEEN {least:Int64} AND {most:Int64} ORDER BY start_ns DESC LIMIT 1 OFFSET {count:UInt32}
