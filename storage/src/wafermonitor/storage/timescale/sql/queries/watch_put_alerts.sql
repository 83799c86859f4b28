-- An acknowledgement that is already there stays. An alert that was only seen again has not changed.
INSERT INTO wafer_data.alert AS a (
  -- include watch_alert_columns
)
SELECT * FROM unnest(
  $1::text[], $2::text[], $3::text[], $4::smallint[], $5::text[], $6::text[], $7::text[], $8::uuid[], $9::bigint[], $10::text[], $11::text[],
  $12::bigint[], $13::bigint[], $14::bigint[], $15::text[], $16::json[], $17::text[], $18::text[], $19::text[], $20::bigint[], $21::bigint[],
  $22::text[], $23::text[]
)
ON CONFLICT (alert_id) DO UPDATE SET
  fingerprint = excluded.fingerprint, rule = excluded.rule, severity = excluded.severity, site = excluded.site, job = excluded.job,
  run_site = excluded.run_site, run_trace_id = excluded.run_trace_id, run_span_id = excluded.run_span_id, feed = excluded.feed,
  detail = excluded.detail, opened_unix_ns = excluded.opened_unix_ns, since_unix_ns = excluded.since_unix_ns,
  seen_unix_ns = excluded.seen_unix_ns, summary = excluded.summary, evidence = excluded.evidence, cause = excluded.cause,
  runbook = excluded.runbook, owner = excluded.owner, resolved_unix_ns = excluded.resolved_unix_ns,
  acknowledged_unix_ns = coalesce(a.acknowledged_unix_ns, excluded.acknowledged_unix_ns),
  acknowledged_by = CASE WHEN a.acknowledged_unix_ns IS NULL THEN excluded.acknowledged_by ELSE a.acknowledged_by END,
  note = CASE WHEN a.acknowledged_unix_ns IS NULL THEN excluded.note ELSE a.note END,
  changed_xid = CASE WHEN (
    a.fingerprint, a.rule, a.severity, a.site, a.job, a.run_site, a.run_trace_id, a.run_span_id, a.feed, a.detail, a.opened_unix_ns,
    a.since_unix_ns, a.summary, a.evidence::text, a.cause, a.runbook, a.owner, a.resolved_unix_ns, a.acknowledged_unix_ns
  ) IS DISTINCT FROM (
    excluded.fingerprint, excluded.rule, excluded.severity, excluded.site, excluded.job, excluded.run_site, excluded.run_trace_id,
    excluded.run_span_id, excluded.feed, excluded.detail, excluded.opened_unix_ns, excluded.since_unix_ns, excluded.summary,
    excluded.evidence::text, excluded.cause, excluded.runbook, excluded.owner, excluded.resolved_unix_ns,
    coalesce(a.acknowledged_unix_ns, excluded.acknowledged_unix_ns)
  ) THEN pg_current_xact_id() ELSE a.changed_xid END
