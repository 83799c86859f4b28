SELECT
  lower(hex(trace_id)), hex(span_id), lower(hex(digest)), time_ns, observed_ns, received_ns, severity, flags, dropped_attributes,
  lower(hex(resource_key)), lower(hex(scope_key)), severity_text, event_name, body, attributes
FROM log_record
WHERE trace_id = toFixedString(unhex({trace:String}), 16)
  AND ({span:String} = '' OR span_id = toFixedString(unhex({span:String}), 8))
  AND ({site:String} = '' OR site = {site:String})
  AND severity >= {severity:Int32}
  AND (empty({events:Array(String)}) OR has({events:Array(String)}, event_name))
  AND ({after:UInt8} = 0 OR (time_ns, digest) > ({after_time:Int64}, toFixedString(unhex({after_digest:String}), 32)))
ORDER BY time_ns, digest, precedence DESC
LIMIT 1 BY time_ns, digest
LIMIT {limit:UInt32}
