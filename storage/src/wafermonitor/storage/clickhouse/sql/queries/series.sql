SELECT
  lower(hex(key)), lower(hex(resource_key)), lower(hex(scope_key)), name, unit, type, temporality, monotonic, attributes
FROM metric_series
WHERE site = {site:String}
  AND ({process:String} = '' OR process_key = toFixedString(unhex({process:String}), 16))
  AND ({process:String} != '' OR service = {service:String})
  AND (empty({names:Array(String)}) OR has({names:Array(String)}, name))
ORDER BY name, key
LIMIT 1 BY name, key
