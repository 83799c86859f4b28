-- Last of the rows that writers share, because every writer of a service meets here.
UPDATE wafer_data.app a SET last_seen_unix_ns = g.seen, service_version = g.version
FROM unnest($1::integer[], $2::bigint[], $3::text[]) AS g (app_id, seen, version)
WHERE a.app_id = g.app_id AND a.last_seen_unix_ns < g.seen
