-- In the order of the digests, so that two receivers with the same items wait for each other and never in a circle. The update
-- changes nothing: it locks the row that is there, also one of another receiver that is committed only now, and returns it.
INSERT INTO wafer_data.arrival AS known (digest, arrived_unix_ns)
SELECT digest, arrived_unix_ns FROM unnest($1::bytea[], $2::bigint[]) AS new (digest, arrived_unix_ns) ORDER BY digest
ON CONFLICT (digest) DO UPDATE SET arrived_unix_ns = known.arrived_unix_ns
RETURNING digest, arrived_unix_ns
