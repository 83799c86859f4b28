SELECT
  -- include letter_columns
FROM dead_letter FINAL
WHERE (key, generation) IN (
  SELECT key, generation
  FROM (
    SELECT key, generation, forgotten, received_ns, site, signal, reason
    FROM dead_letter FINAL
    WHERE signal != ''
    ORDER BY key, generation DESC
    LIMIT 1 BY key
  )
  WHERE forgotten = 0
    AND (empty({site:Array(String)}) OR has({site:Array(String)}, site))
    AND (empty({signal:Array(String)}) OR has({signal:Array(String)}, signal))
    AND ({text:String} = '' OR positionCaseInsensitiveUTF8(reason, {text:String}) > 0)
    AND ({after:UInt8} = 0 OR received_ns < {after_received:Int64}
      OR (received_ns = {after_received:Int64} AND key > toFixedString(unhex({after_key:String}), 32)))
  ORDER BY received_ns DESC, key
  LIMIT {limit:UInt32}
)
ORDER BY received_ns DESC, key
LIMIT {limit:UInt32}
