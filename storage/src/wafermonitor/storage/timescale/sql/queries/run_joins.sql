JOIN wafer_data.site s ON s.site_id = r.site_id
LEFT JOIN wafer_data.process p ON p.process_key = r.process_key
LEFT JOIN wafer_data.feed f ON f.site_id = r.site_id AND f.feed_id = r.feed_id
CROSS JOIN LATERAL wafer.run_state(
  r.end_rank, r.heartbeat_interval_s, p.interval_s, r.last_sign_unix_ns, p.beat_unix_ns, f.watermark_unix_ns, f.received_unix_ns, f.skew_ns, $1,
  (SELECT l FROM wafer.limits l)
) j
CROSS JOIN LATERAL (
  SELECT wafer.overdue(r.end_rank, r.start_unix_ns, r.expected_duration_s, r.deadline_unix_ns, $1) AS overdue
) o
