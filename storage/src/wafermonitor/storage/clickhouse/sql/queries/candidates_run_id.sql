(trace_id, span_id, site) IN (SELECT trace_id, span_id, site FROM run WHERE has({run_id:Array(String)}, run_id.2))
