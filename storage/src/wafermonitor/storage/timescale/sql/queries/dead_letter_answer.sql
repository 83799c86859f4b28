  d.key, s.name AS site, d.signal, d.reason, d.sample, d.received_unix_ns, d.retries, d.retried_unix_ns, d.answer
FROM wafer_data.dead_letter d JOIN wafer_data.site s USING (site_id)
