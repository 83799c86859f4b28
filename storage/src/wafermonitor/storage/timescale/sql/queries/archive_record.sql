INSERT INTO wafer_data.archive_manifest
  (path, signal, site, day, row_count, size_bytes, sha256, checksum, from_unix_ns, to_unix_ns, version)
SELECT path, signal, site, day, row_count, size_bytes, sha256, checksum, from_unix_ns, to_unix_ns, $11::bigint
FROM unnest($1::text[], $2::text[], $3::text[], $4::date[], $5::bigint[], $6::bigint[], $7::bytea[], $8::bytea[], $9::bigint[], $10::bigint[])
  AS g (path, signal, site, day, row_count, size_bytes, sha256, checksum, from_unix_ns, to_unix_ns)
