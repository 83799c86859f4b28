FROM (
  SELECT * FROM wafer_data.span
  UNION ALL
  -- A row that came late and again, after its day had been prepared, stands in both.
  SELECT * FROM wafer_data.span_late l
  WHERE NOT EXISTS (
    SELECT FROM wafer_data.span h
    WHERE (h.trace_id, h.span_id, h.start_time, h.site_id, h.start_ns) = (l.trace_id, l.span_id, l.start_time, l.site_id, l.start_ns)
  )
) t
JOIN wafer_data.site s ON s.site_id = t.site_id
JOIN wafer_data.resource r ON r.resource_id = t.resource_id
JOIN wafer_data.scope c ON c.scope_id = t.scope_id
