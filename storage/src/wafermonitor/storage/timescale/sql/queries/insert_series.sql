-- In: columns of metric_series. Out: (key, number) of each; see insert_site. It is noted as in use today.
WITH today AS (
-- include names_day
), given AS (
  SELECT *
  FROM unnest(
    $1::bytea[], $2::integer[], $3::integer[], $4::text[], $5::text[], $6::text[], $7::smallint[], $8::boolean[], $9::json[]
  ) AS g (key, resource_id, scope_id, name, unit, type, temporality, monotonic, attributes)
), due AS MATERIALIZED (
  -- In the order of the keys, as all writers do. One that somebody else notes or deletes at this moment is in no part of the answer.
  SELECT x.series_id FROM given JOIN wafer_data.metric_series x ON x.key = given.key CROSS JOIN today
  WHERE x.seen < today.day ORDER BY x.key FOR NO KEY UPDATE OF x
), noted AS (
  UPDATE wafer_data.metric_series x SET seen = today.day FROM due, today WHERE x.series_id = due.series_id
  RETURNING x.key, x.series_id
), stored AS (
  INSERT INTO wafer_data.metric_series AS x
    (key, resource_id, scope_id, name, unit, type, temporality, monotonic, attributes, seen)
  SELECT given.*, today.day FROM given CROSS JOIN today
  WHERE NOT EXISTS (SELECT FROM wafer_data.metric_series x WHERE x.key = given.key) ORDER BY key
  ON CONFLICT (key) DO UPDATE SET seen = greatest(x.seen, excluded.seen)
  RETURNING x.key, x.series_id
)
SELECT key, series_id FROM noted
UNION ALL
SELECT key, series_id FROM stored
UNION ALL
SELECT x.key, x.series_id FROM given JOIN wafer_data.metric_series x ON x.key = given.key CROSS JOIN today WHERE x.seen >= today.day
