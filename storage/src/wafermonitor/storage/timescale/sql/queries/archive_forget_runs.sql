-- A run that changed since it was read stays, for the next round.
WITH given AS (
  SELECT g.trace_id, g.span_id, n.site_id, g.changed_xid
  FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[]) AS g (trace_id, span_id, site, changed_xid)
  JOIN wafer_data.site n ON n.name = g.site
), ended AS (
  DELETE FROM wafer_data.run_default l USING given g
  WHERE (l.trace_id, l.span_id, l.site_id) = (g.trace_id, g.span_id, g.site_id) AND l.changed_xid::text = g.changed_xid
)
DELETE FROM wafer_data.run_open o USING given g
WHERE (o.trace_id, o.span_id, o.site_id) = (g.trace_id, g.span_id, g.site_id) AND o.changed_xid::text = g.changed_xid
