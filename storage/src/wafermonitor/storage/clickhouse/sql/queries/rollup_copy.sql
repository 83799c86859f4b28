-- Hours whose runs are gone, as they are, into another time zone.
INSERT INTO job_rollup
SELECT * REPLACE ({zone:String} AS zone, {version:UInt64} AS version)
FROM job_rollup AS r FINAL
WHERE r.zone = {old:String} AND r.unit = 'hour' AND r.bucket < toDateTime({horizon:Int64}, 'UTC')
