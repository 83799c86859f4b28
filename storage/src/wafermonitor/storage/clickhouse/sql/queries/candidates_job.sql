(trace_id, span_id, site) IN (SELECT trace_id, span_id, site FROM run WHERE has({job:Array(String)}, job.2))
