SELECT lower(hex(key)), site, feed, service, service_version, lower(hex(process_key)), has, attributes
FROM resource
WHERE key IN (SELECT toFixedString(unhex(arrayJoin({keys:Array(String)})), 32))
LIMIT 1 BY key
