(trace_id, span_id, site) IN (SELECT trace_id, span_id, site FROM run WHERE has({result:Array(String)}, ending.3))
