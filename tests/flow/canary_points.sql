-- The newest point of each of the canary's metrics: name, check or null, value (of a histogram its count).
SELECT DISTINCT ON (series.series_id)
  series.name, series.attributes::jsonb ->> 'check' AS looked, coalesce(point.value, point.count) AS value
FROM wafer_data.metric_series AS series JOIN wafer_data.metric_point AS point USING (series_id)
WHERE series.name LIKE 'wafer.canary.%'
ORDER BY series.series_id, point.time DESC;
