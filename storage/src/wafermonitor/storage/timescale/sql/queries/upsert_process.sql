INSERT INTO wafer_data.process AS p (process_key, site_id, pid, host, instance_id, beat_unix_ns, interval_s)
SELECT *
FROM unnest($1::uuid[], $2::smallint[], $3::bigint[], $4::text[], $5::text[], $6::bigint[], $7::double precision[])
ON CONFLICT (process_key) DO UPDATE SET
  beat_unix_ns = greatest(p.beat_unix_ns, excluded.beat_unix_ns),
  interval_s = greatest(p.interval_s, excluded.interval_s)
WHERE p.beat_unix_ns < excluded.beat_unix_ns OR p.interval_s IS DISTINCT FROM greatest(p.interval_s, excluded.interval_s)
