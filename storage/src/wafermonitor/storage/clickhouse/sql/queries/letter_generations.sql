SELECT lower(hex(key)), generation, forgotten
FROM dead_letter FINAL
WHERE key IN (SELECT toFixedString(unhex(arrayJoin({keys:Array(String)})), 32))
ORDER BY key, generation DESC
LIMIT 1 BY key
