-- Some ($2) of what was over before $1, of each kind, and of expected runs that were met before $3; how many. What was told of an open alert
-- stays.
WITH runs AS (
  DELETE FROM wafer_data.expected_run WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM wafer_data.expected_run
    WHERE settled AND nominal_unix_ns < greatest($1::bigint, $3::bigint)
      AND greatest(nominal_unix_ns, changed_unix_ns, missed_unix_ns) < CASE state WHEN 'met' THEN $3 ELSE $1 END
    LIMIT $2
  )) RETURNING 1
), alerts AS (
  DELETE FROM wafer_data.alert WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM wafer_data.alert WHERE resolved_unix_ns < $1 LIMIT $2
  )) RETURNING 1
), deliveries AS (
  DELETE FROM wafer_data.delivery WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM wafer_data.delivery
    WHERE state <> 'waiting' AND coalesce(settled_unix_ns, created_unix_ns) < $1
      AND NOT alerts && ARRAY(SELECT a.alert_id FROM wafer_data.alert a WHERE a.resolved_unix_ns IS NULL)
    LIMIT $2
  )) RETURNING 1
), silences AS (
  DELETE FROM wafer_data.silence WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM wafer_data.silence WHERE until_unix_ns < $1 LIMIT $2
  )) RETURNING 1
)
SELECT sum(counted.gone)::bigint AS gone, max(counted.gone) AS most
FROM (
  SELECT count(*) AS gone FROM runs UNION ALL SELECT count(*) FROM alerts UNION ALL
  SELECT count(*) FROM deliveries UNION ALL SELECT count(*) FROM silences
) counted
