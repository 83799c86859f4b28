(trace_id, span_id, site) IN (SELECT trace_id, span_id, site FROM run WHERE has({product:Array(String)}, product.2))
