-- $1 of one origin, $2 whether the proposed are wanted, too.
SELECT name, site, job, origin, spec, since_unix_ns, watched_unix_ns, changed_unix_ns
FROM wafer_data.expectation
WHERE ($1::text IS NULL OR origin = $1) AND ($2::boolean OR origin <> 'proposed')
ORDER BY name
