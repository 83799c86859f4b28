(trace_id, span_id, site) IN (SELECT trace_id, span_id, site FROM run WHERE has({equipment:Array(String)}, equipment.2))
