-- A span and its doubles stand together; the first that was written counts.
SELECT
  -- include span_columns
FROM span
WHERE trace_id = toFixedString(unhex({trace:String}), 16)
  AND ({span:String} = '' OR span_id = toFixedString(unhex({span:String}), 8))
  AND ({site:String} = '' OR site = {site:String})
  AND ({app:String} = '' OR service = {app:String})
  AND start_ns BETWEEN {least:Int64} AND {most:Int64}
  AND ({after:UInt8} = 0 OR (start_ns, span_id, site)
    > ({after_start:Int64}, toFixedString(unhex({after_span:String}), 8), {after_site:String}))
ORDER BY start_ns, span_id, site, precedence DESC
LIMIT 1 BY start_ns, span_id, site
LIMIT {limit:UInt32}
