-- The first claim of each that was not withdrawn or given up: what it says, whether it is confirmed, and how old it is.
SELECT lower(hex(digest)), argMin((arrived_ns, state, greatest(now_us - claimed, 0)), (claimed, call))
FROM (
  SELECT
    digest, call, arrived_ns, max(first_arrival.state) AS state, toInt64(min(claimed_us)) AS claimed,
    toUnixTimestamp64Micro(now64(6)) AS now_us
  FROM first_arrival
  WHERE digest IN (SELECT toFixedString(unhex(arrayJoin({digests:Array(String)})), 32))
  GROUP BY digest, call, arrived_ns
)
WHERE state = 1 OR (state = 0 AND now_us - claimed < {lost_us:Int64})
GROUP BY digest
