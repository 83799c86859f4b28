SELECT lower(hex(key)), beat_ns, interval_s
FROM process FINAL
WHERE key IN (SELECT toFixedString(unhex(arrayJoin({keys:Array(String)})), 16))
