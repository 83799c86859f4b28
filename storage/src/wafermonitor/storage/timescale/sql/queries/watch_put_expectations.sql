INSERT INTO wafer_data.expectation AS e (name, site, job, origin, spec, since_unix_ns, watched_unix_ns, changed_unix_ns)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::json[], $6::bigint[], $7::bigint[], $8::bigint[])
ON CONFLICT (name) DO UPDATE SET
  site = excluded.site, job = excluded.job, origin = excluded.origin, spec = excluded.spec, since_unix_ns = excluded.since_unix_ns,
  watched_unix_ns = excluded.watched_unix_ns, changed_unix_ns = excluded.changed_unix_ns
