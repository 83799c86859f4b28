(trace_id, span_id, site) IN (SELECT trace_id, span_id, site FROM run WHERE has({recipe:Array(String)}, recipe.2))
