-- In which day, week and month an hour is.
SELECT
  hour, toUnixTimestamp(toStartOfDay(at, {zone:String})),
  toUnixTimestamp(toDateTime(toMonday(at, {zone:String}), {zone:String})),
  toUnixTimestamp(toDateTime(toStartOfMonth(at, {zone:String}), {zone:String}))
FROM (SELECT arrayJoin({hours:Array(Int64)}) AS hour, toDateTime(hour, {zone:String}) AS at)
