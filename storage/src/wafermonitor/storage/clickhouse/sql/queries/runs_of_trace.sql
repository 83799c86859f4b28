SELECT
  -- include run_columns
FROM run FINAL
PREWHERE trace_id = toFixedString(unhex({trace:String}), 16)
  AND ({span:String} = '' OR span_id = toFixedString(unhex({span:String}), 8))
  AND (empty({site:Array(String)}) OR has({site:Array(String)}, site))
ORDER BY ifNull(start_ns, -9223372036854775808), span_id, site
LIMIT {limit:UInt32}
