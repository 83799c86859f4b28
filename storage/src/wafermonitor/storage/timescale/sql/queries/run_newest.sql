  r.start_time DESC, r.start_unix_ns DESC NULLS LAST, r.trace_id, int8send(r.span_id),
  (SELECT n.name FROM wafer_data.site n WHERE n.site_id = r.site_id)
