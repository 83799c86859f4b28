-- In: columns of scope. Out: (key, number) of each; see insert_site.
WITH given AS (
  SELECT * FROM unnest($1::bytea[], $2::text[], $3::text[], $4::json[]) AS g (key, name, version, attributes)
), stored AS (
  INSERT INTO wafer_data.scope (key, name, version, attributes)
  SELECT * FROM given WHERE NOT EXISTS (SELECT FROM wafer_data.scope s WHERE s.key = given.key) ORDER BY key
  ON CONFLICT (key) DO UPDATE SET key = excluded.key
  RETURNING key, scope_id
)
SELECT key, scope_id FROM stored
UNION ALL
SELECT s.key, s.scope_id FROM given JOIN wafer_data.scope s ON s.key = given.key
