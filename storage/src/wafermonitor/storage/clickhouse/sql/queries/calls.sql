-- Calls of writers that were announced after `floor`, and whose announcement stands.
SELECT changed_us, lower(hex(call)), count()
FROM run_change
WHERE changed_us > {floor:UInt64}
GROUP BY changed_us, call
ORDER BY changed_us, call
