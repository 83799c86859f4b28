-- How many spans, log records and points one service ($1) has, hot and late.
WITH own AS (SELECT resource_id FROM wafer_data.resource WHERE service = $1),
series AS (SELECT series_id FROM wafer_data.metric_series WHERE resource_id IN (SELECT resource_id FROM own))
SELECT
  (SELECT count(*) FROM wafer_data.span WHERE resource_id IN (SELECT resource_id FROM own))
  + (SELECT count(*) FROM wafer_data.span_late WHERE resource_id IN (SELECT resource_id FROM own)) AS spans,
  (SELECT count(*) FROM wafer_data.log_record WHERE resource_id IN (SELECT resource_id FROM own))
  + (SELECT count(*) FROM wafer_data.log_late WHERE resource_id IN (SELECT resource_id FROM own)) AS logs,
  (SELECT count(*) FROM wafer_data.metric_point WHERE series_id IN (SELECT series_id FROM series))
  + (SELECT count(*) FROM wafer_data.metric_late WHERE series_id IN (SELECT series_id FROM series)) AS points
