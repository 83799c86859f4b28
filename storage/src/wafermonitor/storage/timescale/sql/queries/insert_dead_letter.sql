INSERT INTO wafer_data.dead_letter (key, site_id, signal, reason, sample, received_unix_ns)
SELECT * FROM unnest($1::bytea[], $2::smallint[], $3::text[], $4::text[], $5::bytea[], $6::bigint[])
ON CONFLICT (key) DO NOTHING
