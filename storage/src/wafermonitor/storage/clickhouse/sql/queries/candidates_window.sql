(trace_id, span_id, site) IN (
  SELECT trace_id, span_id, site FROM run_start WHERE start_ns BETWEEN {least:Int64} AND {most:Int64}
)
