-- These hours of these jobs made anew from their runs; what was there and is no longer becomes a row of zeros.
INSERT INTO job_rollup
SELECT
  {zone:String}, 'hour', toDateTime(hour, 'UTC'), site, job, named.1, assumeNotNull(named.2), {version:UInt64},
  -- include rollup_sums
FROM (
  SELECT
    m.hour AS hour, m.site AS site, m.job AS job, named,
    toInt64(NOT m.ended) AS open, toInt64(m.ended) AS ended,
    toInt64(m.ended AND m.result = 'success') AS success, toInt64(m.ended AND m.result = 'failure') AS failure, toInt64(m.ended AND m.result = 'error') AS error,
    toInt64(m.ended AND m.result = 'timeout') AS timeout, toInt64(m.ended AND m.result = 'cancellation') AS cancellation, toInt64(m.ended AND m.result = 'skip') AS skip,
    toInt64(m.ended AND m.subjob) AS subjobs,
    toInt64(m.duration_ns IS NOT NULL) AS duration_count, toInt128(ifNull(m.duration_ns, 0)) AS duration_ns, m.duration_ns AS duration_min_ns, m.duration_ns AS duration_max_ns,
    toInt64(m.cpu_ns IS NOT NULL) AS cpu_count, toInt128(ifNull(m.cpu_ns, 0)) AS cpu_ns, m.cpu_ns AS cpu_min_ns, m.cpu_ns AS cpu_max_ns,
    toInt64(m.memory_bytes IS NOT NULL) AS memory_count, toInt128(ifNull(m.memory_bytes, 0)) AS memory_bytes, m.memory_bytes AS memory_min_bytes, m.memory_bytes AS memory_max_bytes,
    toInt64(m.queue_ns IS NOT NULL) AS queue_count, toInt128(ifNull(m.queue_ns, 0)) AS queue_ns, m.queue_ns AS queue_min_ns, m.queue_ns AS queue_max_ns,
    if(
      m.duration_ns IS NULL, CAST(([], []), 'Tuple(Array(Int16), Array(UInt64))'),
      CAST(([if(m.duration_ns <= 1, 0, ceil(log(toFloat64(assumeNotNull(m.duration_ns))) * 25.968510736806735))], [1]),
        'Tuple(Array(Int16), Array(UInt64))')
    ) AS durations
  FROM (
    SELECT *, start_s - positiveModulo(start_s + timeZoneOffset(toDateTime(start_s, {zone:String})), 3600) AS hour,
      CAST([('', ''), ('app', service), ('equipment', equipment), ('recipe', recipe), ('product', product)],
        'Array(Tuple(String, Nullable(String)))') AS names
    FROM run_measured FINAL
    WHERE quarter IN (SELECT arrayJoin({quarters:Array(Int64)})) AND counted
  ) AS m
  ARRAY JOIN names AS named
  WHERE named.2 IS NOT NULL AND (m.hour, m.site, m.job) GLOBAL IN (
    SELECT (one.1, one.2, one.3)
    FROM (SELECT arrayJoin(arrayZip({hours:Array(Int64)}, {sites:Array(String)}, {jobs:Array(String)})) AS one)
  )
  UNION ALL
  SELECT
    toInt64(toUnixTimestamp(r.bucket)) AS hour, r.site AS site, r.job AS job,
    CAST((r.dimension, r.value), 'Tuple(String, Nullable(String))') AS named,
    -- include rollup_nothing
  FROM job_rollup AS r FINAL
  WHERE r.zone = {zone:String} AND r.unit = 'hour' AND toInt64(toUnixTimestamp(r.bucket)) IN (SELECT arrayJoin({hours:Array(Int64)}))
    AND r.bucket BETWEEN toDateTime(arrayMin({hours:Array(Int64)}), 'UTC') AND toDateTime(arrayMax({hours:Array(Int64)}), 'UTC')
    AND (toInt64(toUnixTimestamp(r.bucket)), r.site, r.job) GLOBAL IN (
      SELECT (one.1, one.2, one.3)
      FROM (SELECT arrayJoin(arrayZip({hours:Array(Int64)}, {sites:Array(String)}, {jobs:Array(String)})) AS one)
    )
    AND r.open + r.ended > 0
)
GROUP BY hour, site, job, named
