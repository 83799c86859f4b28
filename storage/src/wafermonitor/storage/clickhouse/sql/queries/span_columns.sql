  lower(hex(trace_id)), lower(hex(span_id)), hex(parent_span_id), start_ns, duration_ns, received_ns, kind, status, flags,
  dropped_attributes, dropped_events, dropped_links, lower(hex(resource_key)), lower(hex(scope_key)), name, status_message,
  trace_state, attributes, events, links
