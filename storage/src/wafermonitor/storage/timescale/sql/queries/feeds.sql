SELECT s.name AS site, f.feed_id, f.watermark_unix_ns, f.received_unix_ns, f.skew_ns
FROM wafer_data.feed f JOIN wafer_data.site s USING (site_id)
ORDER BY s.name, f.feed_id
