DELETE FROM wafer_data.span_late l
USING unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::smallint[], $5::text[]) AS g (trace_id, span_id, start_time, start_ns, site)
WHERE (l.trace_id, l.span_id, l.start_time, l.start_ns) = (g.trace_id, g.span_id, g.start_time, g.start_ns)
  AND l.site_id = (SELECT n.site_id FROM wafer_data.site n WHERE n.name = g.site)
