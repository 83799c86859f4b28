SELECT
  -- include span_columns
FROM span
WHERE (trace_id, span_id, start_ns, site) IN (
  SELECT trace_id, span_id, start_ns, site
  FROM root_span
  WHERE ({site:String} = '' OR site = {site:String})
    AND ({app:String} = '' OR service = {app:String})
    AND start_ns BETWEEN {least:Int64} AND {most:Int64}
    AND ({after:UInt8} = 0 OR start_ns < {after_start:Int64} OR (start_ns = {after_start:Int64} AND (trace_id, span_id, site)
      > (toFixedString(unhex({after_trace:String}), 16), toFixedString(unhex({after_span:String}), 8), {after_site:String})))
  ORDER BY start_ns DESC, trace_id, span_id, site
  LIMIT 1 BY start_ns, trace_id, span_id, site
  LIMIT {limit:UInt32}
)
ORDER BY start_ns DESC, trace_id, span_id, site, precedence DESC
LIMIT 1 BY start_ns, trace_id, span_id, site
LIMIT {limit:UInt32}
