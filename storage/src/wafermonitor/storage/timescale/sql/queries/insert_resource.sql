-- In: columns of resource. Out: (key, number) of each; see insert_site. It is noted as in use today.
WITH today AS (
-- include names_day
), given AS (
  SELECT *
  FROM unnest($1::bytea[], $2::smallint[], $3::text[], $4::text[], $5::text[], $6::uuid[], $7::json[])
    AS g (key, site_id, feed_id, service, service_version, process_key, attributes)
), due AS MATERIALIZED (
  -- In the order of the keys, as all writers do. One that somebody else notes or deletes at this moment is in no part of the answer.
  SELECT x.resource_id FROM given JOIN wafer_data.resource x ON x.key = given.key CROSS JOIN today
  WHERE x.seen < today.day ORDER BY x.key FOR NO KEY UPDATE OF x
), noted AS (
  UPDATE wafer_data.resource x SET seen = today.day FROM due, today WHERE x.resource_id = due.resource_id
  RETURNING x.key, x.resource_id
), stored AS (
  INSERT INTO wafer_data.resource AS x
    (key, site_id, feed_id, service, service_version, process_key, attributes, seen)
  SELECT given.*, today.day FROM given CROSS JOIN today
  WHERE NOT EXISTS (SELECT FROM wafer_data.resource x WHERE x.key = given.key) ORDER BY key
  ON CONFLICT (key) DO UPDATE SET seen = greatest(x.seen, excluded.seen)
  RETURNING x.key, x.resource_id
)
SELECT key, resource_id FROM noted
UNION ALL
SELECT key, resource_id FROM stored
UNION ALL
SELECT x.key, x.resource_id FROM given JOIN wafer_data.resource x ON x.key = given.key CROSS JOIN today WHERE x.seen >= today.day
