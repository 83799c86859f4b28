SELECT
  -- include run_columns
FROM run FINAL
PREWHERE (trace_id, span_id, site) IN (
  SELECT toFixedString(unhex(key.1), 16), toFixedString(unhex(key.2), 8), key.3
  FROM (SELECT arrayJoin(arrayZip({traces:Array(String)}, {spans:Array(String)}, {sites:Array(String)})) AS key)
)
