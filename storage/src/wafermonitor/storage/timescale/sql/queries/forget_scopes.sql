-- As forget_resources; there are few.
WITH page AS MATERIALIZED (
  SELECT scope_id, seen FROM wafer_data.scope WHERE scope_id > $1::integer ORDER BY scope_id LIMIT $2
), old AS MATERIALIZED (
  SELECT x.scope_id FROM wafer_data.scope x
  WHERE x.scope_id = ANY (ARRAY(SELECT p.scope_id FROM page p WHERE p.seen < $3::date AND NOT EXISTS (SELECT FROM unnest($4::integer[]) AS u (id) WHERE u.id = p.scope_id)))
    AND x.seen < $3
    AND x.scope_id <> ALL (ARRAY(SELECT DISTINCT m.scope_id FROM wafer_data.metric_series m))
  FOR UPDATE OF x SKIP LOCKED
), gone AS (
  DELETE FROM wafer_data.scope x USING old WHERE x.scope_id = old.scope_id AND x.seen < $3 RETURNING 1
)
SELECT (SELECT max(scope_id) FROM page) AS last, (SELECT count(*) FROM gone) AS gone
