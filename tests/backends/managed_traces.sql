-- Spans of the corpus: key, name, ids in hex, times in ns, site, service.
SELECT t.attributes ->> 'corpus.key' AS key, t.name, s.name AS site, r.service,
  replace(t.trace_id::text, '-', '') AS trace_id, lpad(to_hex(t.span_id), 16, '0') AS span_id,
  (extract(epoch FROM t.start_time) * 1000000)::bigint * 1000 + t.start_ns AS start_ns, t.duration_ns, t.status_message
FROM (SELECT * FROM wafer_data.span UNION ALL SELECT * FROM wafer_data.span_late) AS t
JOIN wafer_data.site AS s USING (site_id)
JOIN wafer_data.resource AS r USING (resource_id)
WHERE t.attributes ->> 'corpus.key' IS NOT NULL
