DELETE FROM wafer_data.log_late l
USING unnest($1::timestamptz[], $2::bytea[]) AS g (time, digest)
WHERE (l.time, l.digest) = (g.time, g.digest)
