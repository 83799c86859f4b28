-- Of the $2 series after number $1: delete those last noted before $3, but for those of $4. Out: the last number (null: none is left), how many went.
WITH page AS MATERIALIZED (
  SELECT series_id, seen FROM wafer_data.metric_series WHERE series_id > $1::integer ORDER BY series_id LIMIT $2
), old AS MATERIALIZED (
  SELECT x.series_id FROM wafer_data.metric_series x
  WHERE x.series_id = ANY (ARRAY(SELECT p.series_id FROM page p WHERE p.seen < $3::date AND NOT EXISTS (SELECT FROM unnest($4::integer[]) AS u (id) WHERE u.id = p.series_id)))
    AND x.seen < $3
  FOR UPDATE OF x SKIP LOCKED
), gone AS (
  DELETE FROM wafer_data.metric_series x USING old WHERE x.series_id = old.series_id AND x.seen < $3 RETURNING 1
)
SELECT (SELECT max(series_id) FROM page) AS last, (SELECT count(*) FROM gone) AS gone
