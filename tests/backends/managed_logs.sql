-- Log records of the corpus: key, text, event, times in ns, site, service.
SELECT t.attributes ->> 'corpus.key' AS key, t.body #>> '{}' AS body, t.event_name, t.severity, s.name AS site, r.service,
  (extract(epoch FROM t.time) * 1000000)::bigint * 1000 + t.time_ns AS time_ns, replace(t.trace_id::text, '-', '') AS trace_id
FROM (SELECT * FROM wafer_data.log_record UNION ALL SELECT * FROM wafer_data.log_late) AS t
JOIN wafer_data.site AS s USING (site_id)
JOIN wafer_data.resource AS r USING (resource_id)
WHERE t.attributes ->> 'corpus.key' IS NOT NULL
