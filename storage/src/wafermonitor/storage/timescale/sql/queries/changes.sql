-- Runs changed by a transaction that the token's snapshot ($2) does not show, in the order of the transactions; all of the last one.
-- A row that a dump brought from another server may bear the number of a transaction that here is still to come: it is no change.
SELECT
  -- include run_answer
FROM wafer_data.known_run r
-- include run_joins
WHERE r.changed_xid >= pg_snapshot_xmin($2::text::pg_snapshot) AND r.changed_xid < pg_snapshot_xmax(pg_current_snapshot())
  AND NOT pg_visible_in_snapshot(r.changed_xid, $2::text::pg_snapshot)
ORDER BY r.changed_xid
FETCH FIRST $3 ROWS WITH TIES
