  alert_id, fingerprint, rule, severity, site, job, run_site, run_trace_id, run_span_id, feed, detail, opened_unix_ns, since_unix_ns, seen_unix_ns,
  summary, evidence, cause, runbook, owner, resolved_unix_ns, acknowledged_unix_ns, acknowledged_by, note
