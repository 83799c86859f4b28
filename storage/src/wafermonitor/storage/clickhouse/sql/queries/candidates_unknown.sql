(trace_id, span_id, site) IN (SELECT trace_id, span_id, site FROM run WHERE start_ns IS NULL)
