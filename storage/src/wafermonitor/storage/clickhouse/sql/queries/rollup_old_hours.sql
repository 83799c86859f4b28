SELECT DISTINCT toInt64(toUnixTimestamp(bucket)) AS hour, site, job
FROM job_rollup
WHERE zone = {zone:String} AND unit = 'hour' AND bucket < toDateTime({horizon:Int64}, 'UTC')
ORDER BY hour DESC, site, job
