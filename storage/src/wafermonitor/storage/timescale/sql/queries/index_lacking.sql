-- Partitions that have no part of the partitioned index $1.
SELECT c.relname AS partition
FROM pg_index parent JOIN pg_inherits h ON h.inhparent = parent.indrelid JOIN pg_class c ON c.oid = h.inhrelid
WHERE parent.indexrelid = $1::text::regclass AND NOT EXISTS (
  SELECT FROM pg_inherits part JOIN pg_index i ON i.indexrelid = part.inhrelid
  WHERE part.inhparent = parent.indexrelid AND i.indrelid = h.inhrelid
)
ORDER BY c.relname
