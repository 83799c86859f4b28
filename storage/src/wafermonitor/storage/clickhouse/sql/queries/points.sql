SELECT
  lower(hex(series_key)), time_ns, start_ns, value, count, sum, min, max, has, bounds, buckets, quantile_values, flags, received_ns
FROM metric_point
WHERE series_key IN (SELECT toFixedString(unhex(arrayJoin({keys:Array(String)})), 32))
  AND time_ns BETWEEN {least:Int64} AND {most:Int64}
ORDER BY indexOf({keys:Array(String)}, lower(hex(series_key))), time_ns, precedence DESC
LIMIT 1 BY series_key, time_ns
LIMIT {limit:UInt32}
