-- In: columns of scope. Out: (key, number) of each; see insert_site. It is noted as in use today.
WITH today AS (
-- include names_day
), given AS (
  SELECT * FROM unnest($1::bytea[], $2::text[], $3::text[], $4::json[]) AS g (key, name, version, attributes)
), due AS MATERIALIZED (
  -- In the order of the keys, as all writers do. One that somebody else notes or deletes at this moment is in no part of the answer.
  SELECT x.scope_id FROM given JOIN wafer_data.scope x ON x.key = given.key CROSS JOIN today
  WHERE x.seen < today.day ORDER BY x.key FOR NO KEY UPDATE OF x
), noted AS (
  UPDATE wafer_data.scope x SET seen = today.day FROM due, today WHERE x.scope_id = due.scope_id
  RETURNING x.key, x.scope_id
), stored AS (
  INSERT INTO wafer_data.scope AS x
    (key, name, version, attributes, seen)
  SELECT given.*, today.day FROM given CROSS JOIN today
  WHERE NOT EXISTS (SELECT FROM wafer_data.scope x WHERE x.key = given.key) ORDER BY key
  ON CONFLICT (key) DO UPDATE SET seen = greatest(x.seen, excluded.seen)
  RETURNING x.key, x.scope_id
)
SELECT key, scope_id FROM noted
UNION ALL
SELECT key, scope_id FROM stored
UNION ALL
SELECT x.key, x.scope_id FROM given JOIN wafer_data.scope x ON x.key = given.key CROSS JOIN today WHERE x.seen >= today.day
