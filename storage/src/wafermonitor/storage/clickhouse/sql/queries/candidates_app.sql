(trace_id, span_id, site) IN (SELECT trace_id, span_id, site FROM run WHERE has({app:Array(String)}, service.2))
