-- In: sites and services. Out: their numbers; see insert_site.
WITH given AS (
  SELECT site_id, service COLLATE "C" AS service FROM unnest($1::smallint[], $2::text[]) AS g (site_id, service)
), stored AS (
  INSERT INTO wafer_data.app (site_id, service)
  SELECT * FROM given
  WHERE NOT EXISTS (SELECT FROM wafer_data.app a WHERE (a.service, a.site_id) = (given.service, given.site_id))
  ORDER BY site_id, service
  ON CONFLICT (service, site_id) DO UPDATE SET service = excluded.service
  RETURNING site_id, service, app_id
)
SELECT site_id, service, app_id FROM stored
UNION ALL
SELECT a.site_id, a.service, a.app_id FROM given JOIN wafer_data.app a ON (a.service, a.site_id) = (given.service, given.site_id)
