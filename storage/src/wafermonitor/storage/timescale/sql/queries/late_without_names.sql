-- Late rows that nobody shows and no round of the archive takes, because a name that they refer to is not in the store: by table.
SELECT t.name, t.rows FROM (
  SELECT 'span_late' AS name, count(*) AS rows FROM ONLY wafer_data.span_late l
  WHERE NOT EXISTS (SELECT FROM wafer_data.site s WHERE s.site_id = l.site_id)
    OR NOT EXISTS (SELECT FROM wafer_data.resource r WHERE r.resource_id = l.resource_id)
    OR NOT EXISTS (SELECT FROM wafer_data.scope c WHERE c.scope_id = l.scope_id)
  UNION ALL
  SELECT 'log_late', count(*) FROM ONLY wafer_data.log_late l
  WHERE NOT EXISTS (SELECT FROM wafer_data.site s WHERE s.site_id = l.site_id)
    OR NOT EXISTS (SELECT FROM wafer_data.resource r WHERE r.resource_id = l.resource_id)
    OR NOT EXISTS (SELECT FROM wafer_data.scope c WHERE c.scope_id = l.scope_id)
  UNION ALL
  SELECT 'metric_late', count(*) FROM ONLY wafer_data.metric_late l
  WHERE NOT EXISTS (
    SELECT FROM wafer_data.metric_series m
    JOIN wafer_data.resource r ON r.resource_id = m.resource_id
    JOIN wafer_data.site s ON s.site_id = r.site_id
    JOIN wafer_data.scope c ON c.scope_id = m.scope_id
    WHERE m.series_id = l.series_id
  )
) t WHERE t.rows > 0
