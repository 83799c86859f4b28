(trace_id, span_id, site) IN (SELECT trace_id, span_id, site FROM run WHERE ending.1 = 0)
