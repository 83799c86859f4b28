(trace_id, span_id, site) IN (SELECT trace_id, span_id, site FROM run_start WHERE ended = 0)
