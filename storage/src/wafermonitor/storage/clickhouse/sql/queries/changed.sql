SELECT lower(hex(trace_id)), lower(hex(span_id)), site
FROM run_change
WHERE changed_us BETWEEN {least:UInt64} AND {most:UInt64}
  AND call IN (SELECT toFixedString(unhex(arrayJoin({calls:Array(String)})), 6))
GROUP BY trace_id, span_id, site
ORDER BY min(changed_us), trace_id, span_id, site
