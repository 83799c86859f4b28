(trace_id, span_id, site) IN (SELECT trace_id, span_id, site FROM run WHERE hasAny(substrate_ids.2, {substrate:Array(String)}))
