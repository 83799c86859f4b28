  r.trace_id, r.span_id, r.site_id, r.job, r.start_unix_ns, r.received_unix_ns, r.nominal_unix_ns, r.run_id, r.attempt, r.lot_ids,
  r.feed_id, r.end_rank < 2 OR r.heartbeat_interval_s IS NOT NULL AS announced, r.end_unix_ns, r.result,
  coalesce(r.start_unix_ns, r.received_unix_ns) AS began_ns
