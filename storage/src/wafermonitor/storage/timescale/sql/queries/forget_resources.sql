-- As forget_series. One that a series names stays; a writer that makes a series now has noted its resource within the day.
WITH page AS MATERIALIZED (
  SELECT resource_id, seen FROM wafer_data.resource WHERE resource_id > $1::integer ORDER BY resource_id LIMIT $2
), old AS MATERIALIZED (
  SELECT x.resource_id FROM wafer_data.resource x
  WHERE x.resource_id = ANY (ARRAY(SELECT p.resource_id FROM page p WHERE p.seen < $3::date AND NOT EXISTS (SELECT FROM unnest($4::integer[]) AS u (id) WHERE u.id = p.resource_id)))
    AND x.seen < $3
    AND NOT EXISTS (SELECT FROM wafer_data.metric_series m WHERE m.resource_id = x.resource_id)
  FOR UPDATE OF x SKIP LOCKED
), gone AS (
  DELETE FROM wafer_data.resource x USING old WHERE x.resource_id = old.resource_id AND x.seen < $3 RETURNING 1
)
SELECT (SELECT max(resource_id) FROM page) AS last, (SELECT count(*) FROM gone) AS gone
