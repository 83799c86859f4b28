-- In: names. Out: (name, number) of each. WHERE NOT EXISTS, because ON CONFLICT alone spends a number on every attempt; the
-- second SELECT, because what another writer stores meanwhile is not in this statement's snapshot but for ON CONFLICT's update.
WITH given AS (
  SELECT DISTINCT name COLLATE "C" AS name FROM unnest($1::text[]) AS g (name)
), stored AS (
  INSERT INTO wafer_data.site (name)
  SELECT name FROM given WHERE NOT EXISTS (SELECT FROM wafer_data.site s WHERE s.name = given.name) ORDER BY name
  ON CONFLICT (name) DO UPDATE SET name = excluded.name
  RETURNING name, site_id
)
SELECT name, site_id FROM stored
UNION ALL
SELECT s.name, s.site_id FROM given JOIN wafer_data.site s ON s.name = given.name
