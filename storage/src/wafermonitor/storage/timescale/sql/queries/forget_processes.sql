-- Processes whose last beat was before $1, but for those of runs that have not ended: their state goes by it. What is shown of an ended
-- run of such a process is its own last sign.
WITH old AS MATERIALIZED (
  SELECT p.process_key FROM wafer_data.process p
  WHERE p.beat_unix_ns < extract(epoch FROM $1::date::timestamp)::bigint * 1000000000
    AND NOT EXISTS (SELECT FROM wafer_data.run_open o WHERE o.process_key = p.process_key)
  LIMIT $2
  FOR UPDATE OF p SKIP LOCKED
)
DELETE FROM wafer_data.process p USING old WHERE p.process_key = old.process_key
