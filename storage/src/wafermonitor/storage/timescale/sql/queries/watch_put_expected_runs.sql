-- Rows that are already so are not written again.
INSERT INTO wafer_data.expected_run AS e (
  -- include watch_expected_columns
)
SELECT * FROM unnest(
  $1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::text[], $10::bigint[], $11::text[],
  $12::uuid[], $13::bigint[], $14::boolean[], $15::bigint[]
)
ON CONFLICT (expectation, nominal_unix_ns, subject) DO UPDATE SET
  site = excluded.site, job = excluded.job, opens_unix_ns = excluded.opens_unix_ns, late_unix_ns = excluded.late_unix_ns,
  missed_unix_ns = excluded.missed_unix_ns, state = excluded.state, start_unix_ns = excluded.start_unix_ns, run_site = excluded.run_site,
  run_trace_id = excluded.run_trace_id, run_span_id = excluded.run_span_id, settled = excluded.settled,
  changed_unix_ns = excluded.changed_unix_ns
WHERE e IS DISTINCT FROM excluded
