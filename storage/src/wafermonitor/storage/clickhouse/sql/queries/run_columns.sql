  lower(hex(trace_id)), lower(hex(span_id)), site, start_ns, final_fields, ending, heartbeat_interval_s, last_sign_ns, progress,
  cpu_s, memory_bytes, inferred, received_ns,
  job, run_id, (parent_span_id.1, hex(parent_span_id.2)), parent_run_id, feed, service, service_version, attempt, trigger,
  nominal_time_ns, expected_duration_s, deadline_ns, owner, equipment, recipe, product, lot_ids, substrate_ids,
  (process_key.1, hex(process_key.2)), attributes
