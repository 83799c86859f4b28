(trace_id, span_id, site) IN (SELECT trace_id, span_id, site FROM run WHERE hasAny(lot_ids.2, {lot:Array(String)}))
