-- Alerts changed by a transaction that the token's snapshot ($1) does not show; as `changes` does it for runs.
SELECT
  changed_xid,
  -- include watch_alert_columns
FROM wafer_data.alert
WHERE changed_xid >= pg_snapshot_xmin($1::text::pg_snapshot) AND changed_xid < pg_snapshot_xmax(pg_current_snapshot())
  AND NOT pg_visible_in_snapshot(changed_xid, $1::text::pg_snapshot)
ORDER BY changed_xid
FETCH FIRST $2 ROWS WITH TIES
