-- A row without a signal is what is left of marks whose letter is gone.
SELECT lower(hex(key)), generation, forgotten, received_ns
FROM dead_letter FINAL
WHERE key IN (SELECT toFixedString(unhex(arrayJoin({keys:Array(String)})), 32)) AND signal != ''
ORDER BY key, generation DESC
LIMIT 1 BY key
