INSERT INTO wafer_data.feed AS f (site_id, feed_id, watermark_unix_ns, received_unix_ns, skew_ns)
SELECT * FROM unnest($1::smallint[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[])
ON CONFLICT (site_id, feed_id) DO UPDATE SET
  watermark_unix_ns = greatest(f.watermark_unix_ns, excluded.watermark_unix_ns),
  received_unix_ns = greatest(f.received_unix_ns, excluded.received_unix_ns),
  skew_ns = least(f.skew_ns, excluded.skew_ns)
