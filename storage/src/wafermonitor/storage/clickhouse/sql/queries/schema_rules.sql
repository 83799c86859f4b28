-- What stands behind TTL, to the end of the settings: enough to see whether there is a rule, and of how many days.
SELECT name, extract(engine_full, ' TTL (.*)') FROM system.tables WHERE database = {database:String}
