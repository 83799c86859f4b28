-- These days, weeks or months of these jobs made anew from shorter buckets, which keep a row of zeros where there is nothing any more.
INSERT INTO job_rollup
SELECT
  {zone:String}, {unit:String}, toDateTime(longer, 'UTC'), site, job, dimension, value, {version:UInt64},
  -- include rollup_sums
FROM (
  SELECT
    *,
    toTimeZone(bucket, {zone:String}) AS at,
    -- if day
    toInt64(toUnixTimestamp(toStartOfDay(at, {zone:String}))) AS longer
    -- end
    -- if week
    toInt64(toUnixTimestamp(toDateTime(toMonday(at, {zone:String}), {zone:String}))) AS longer
    -- end
    -- if month
    toInt64(toUnixTimestamp(toDateTime(toStartOfMonth(at, {zone:String}), {zone:String}))) AS longer
    -- end
  FROM job_rollup FINAL
  WHERE zone = {zone:String} AND unit = {part:String} AND bucket IN (
    SELECT toDateTime(arrayJoin(arrayMap(quarter -> one + quarter * 900, range({quarters:UInt32}))), 'UTC')
    FROM (SELECT DISTINCT arrayJoin({buckets:Array(Int64)}) AS one)
  )
)
WHERE (longer, site, job) GLOBAL IN (
  SELECT (one.1, one.2, one.3)
  FROM (SELECT arrayJoin(arrayZip({buckets:Array(Int64)}, {sites:Array(String)}, {jobs:Array(String)})) AS one)
)
GROUP BY longer, site, job, dimension, value
