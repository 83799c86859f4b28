SELECT name, site, job, origin, spec, since_unix_ns, watched_unix_ns, changed_unix_ns
FROM wafer_data.expectation
WHERE name = ANY ($1::text[]) OR origin = $2::text
FOR UPDATE
