-- A run that changed since it was read stays, for the next round.
DELETE FROM wafer_data.run_default l
USING unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[]) AS g (trace_id, span_id, site, changed_xid)
WHERE (l.trace_id, l.span_id) = (g.trace_id, g.span_id) AND l.changed_xid::text = g.changed_xid
  AND l.site_id = (SELECT n.site_id FROM wafer_data.site n WHERE n.name = g.site)
