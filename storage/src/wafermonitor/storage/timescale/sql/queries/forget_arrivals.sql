-- One that somebody asks for at this moment stays until the next round: locked in the order of time, where those who ask lock them in
-- that of the digests, two would wait for each other.
DELETE FROM wafer_data.arrival
WHERE digest IN (SELECT digest FROM wafer_data.arrival WHERE arrived_unix_ns < $1::bigint FOR UPDATE SKIP LOCKED)
