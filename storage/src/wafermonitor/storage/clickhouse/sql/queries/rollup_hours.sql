SELECT DISTINCT start_s - positiveModulo(start_s + timeZoneOffset(toDateTime(start_s, {zone:String})), 3600) AS hour, site, job
FROM (
  -- A quarter of an hour lies in two hours where a clock was off by minutes.
  SELECT arrayJoin([place.1 * 900, place.1 * 900 + 899]) AS start_s, site, place.2 AS job
  FROM (
    -- places
  )
)
ORDER BY hour, site, job
