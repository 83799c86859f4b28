SELECT lower(hex(key)), name, version, attributes
FROM scope
WHERE key IN (SELECT toFixedString(unhex(arrayJoin({keys:Array(String)})), 32))
LIMIT 1 BY key
