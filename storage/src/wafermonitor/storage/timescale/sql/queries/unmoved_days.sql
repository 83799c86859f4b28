-- Days whose rows stand in a partition: of a native table, or taken off already. The newest first, as they are moved.
SELECT t.name, to_date(right(c.relname, 8), 'YYYYMMDD') AS day, greatest(c.reltuples, 0)::bigint AS rows, pg_total_relation_size(c.oid) AS bytes
FROM wafer_data.day_table t
JOIN pg_inherits i ON i.inhparent IN (t.hot, t.late)
JOIN pg_class c ON c.oid = i.inhrelid
WHERE c.relnamespace = 'wafer_data'::regnamespace AND c.relname ~ '_[0-9]{8}$' AND (i.inhparent = t.late OR pg_relation_size(c.oid) > 0)
ORDER BY day DESC, t.name DESC
