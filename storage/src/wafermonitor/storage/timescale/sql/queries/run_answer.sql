  r.*, s.name AS site, p.beat_unix_ns AS process_beat_unix_ns, p.interval_s AS process_interval_s,
  j.state, o.overdue, wafer.failing_rank(j.state, o.overdue, r.result) AS rank
