-- The next $1 deltas.
WITH taken AS (
  DELETE FROM pg_temp.run_waiting WHERE ctid = ANY (ARRAY(SELECT ctid FROM pg_temp.run_waiting LIMIT $1)) RETURNING *
)
INSERT INTO pg_temp.run_delta SELECT * FROM taken
