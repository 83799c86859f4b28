SELECT site, feed, watermark_ns, received_ns, skew_ns
FROM feed FINAL
WHERE (empty({sites:Array(String)}) OR has({sites:Array(String)}, site))
  AND (empty({feeds:Array(String)}) OR has({feeds:Array(String)}, feed))
ORDER BY site, feed
