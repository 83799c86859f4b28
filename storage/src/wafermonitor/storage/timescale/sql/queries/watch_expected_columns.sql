  expectation, site, job, subject, nominal_unix_ns, opens_unix_ns, late_unix_ns, missed_unix_ns, state, start_unix_ns, run_site, run_trace_id,
  run_span_id, settled, changed_unix_ns
