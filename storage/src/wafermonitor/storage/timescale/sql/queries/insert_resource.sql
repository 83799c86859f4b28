-- In: columns of resource. Out: (key, number) of each; see insert_site.
WITH given AS (
  SELECT *
  FROM unnest($1::bytea[], $2::smallint[], $3::text[], $4::text[], $5::text[], $6::uuid[], $7::json[])
    AS g (key, site_id, feed_id, service, service_version, process_key, attributes)
), stored AS (
  INSERT INTO wafer_data.resource (key, site_id, feed_id, service, service_version, process_key, attributes)
  SELECT * FROM given WHERE NOT EXISTS (SELECT FROM wafer_data.resource r WHERE r.key = given.key) ORDER BY key
  ON CONFLICT (key) DO UPDATE SET key = excluded.key
  RETURNING key, resource_id
)
SELECT key, resource_id FROM stored
UNION ALL
SELECT r.key, r.resource_id FROM given JOIN wafer_data.resource r ON r.key = given.key
