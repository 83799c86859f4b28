-- $1 id, $2 who, $3 note, $4 now, if somebody else says what time it is. The last who says so is the one; the time is the first's.
UPDATE wafer_data.alert SET
  acknowledged_unix_ns = coalesce(acknowledged_unix_ns, $4::bigint, wafer_data.now_ns()), acknowledged_by = $2, note = $3,
  changed_xid = CASE
    WHEN acknowledged_unix_ns IS NULL OR (acknowledged_by, note) IS DISTINCT FROM ($2, $3) THEN pg_current_xact_id()
    ELSE changed_xid
  END
WHERE alert_id = $1
RETURNING
  -- include watch_alert_columns
