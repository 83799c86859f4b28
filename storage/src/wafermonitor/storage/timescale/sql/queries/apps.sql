-- A service is numbered a moment before its first rows are committed; until then it has not been seen.
SELECT a.service, a.service_version, s.name AS site, a.last_seen_unix_ns
FROM wafer_data.app a JOIN wafer_data.site s USING (site_id)
WHERE a.last_seen_unix_ns > 0 AND ($1::text IS NULL OR s.name = $1)
ORDER BY s.name, a.service
