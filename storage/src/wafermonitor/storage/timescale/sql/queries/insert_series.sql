-- In: columns of metric_series. Out: (key, number) of each; see insert_site.
WITH given AS (
  SELECT *
  FROM unnest(
    $1::bytea[], $2::integer[], $3::integer[], $4::text[], $5::text[], $6::text[], $7::smallint[], $8::boolean[], $9::json[]
  ) AS g (key, resource_id, scope_id, name, unit, type, temporality, monotonic, attributes)
), stored AS (
  INSERT INTO wafer_data.metric_series
    (key, resource_id, scope_id, name, unit, type, temporality, monotonic, attributes)
  SELECT * FROM given WHERE NOT EXISTS (SELECT FROM wafer_data.metric_series s WHERE s.key = given.key) ORDER BY key
  ON CONFLICT (key) DO UPDATE SET key = excluded.key
  RETURNING key, series_id
)
SELECT key, series_id FROM stored
UNION ALL
SELECT s.key, s.series_id FROM given JOIN wafer_data.metric_series s ON s.key = given.key
