UPDATE wafer_data.expectation e SET watched_unix_ns = g.watched_unix_ns
FROM unnest($1::text[], $2::bigint[]) AS g (name, watched_unix_ns)
WHERE e.name = g.name AND e.watched_unix_ns <> g.watched_unix_ns
