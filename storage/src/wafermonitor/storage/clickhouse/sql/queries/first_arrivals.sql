SELECT lower(hex(digest)), argMin(arrived_ns, (claimed, call))
FROM (
  SELECT digest, call, arrived_ns, max(claimed_us) AS claimed
  FROM first_arrival
  WHERE digest IN (SELECT toFixedString(unhex(arrayJoin({digests:Array(String)})), 32))
  GROUP BY digest, call, arrived_ns
)
GROUP BY digest
