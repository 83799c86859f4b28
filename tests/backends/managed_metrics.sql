-- Points of the corpus: key, metric, value (of a histogram its sum), time in ns, site, service.
SELECT m.attributes ->> 'corpus.key' AS key, m.name, m.unit, s.name AS site, r.service, t.value, t.count, t.sum,
  (extract(epoch FROM t.time) * 1000000)::bigint * 1000 + t.time_ns AS time_ns
FROM (SELECT * FROM wafer_data.metric_point UNION ALL SELECT * FROM wafer_data.metric_late) AS t
JOIN wafer_data.metric_series AS m USING (series_id)
JOIN wafer_data.resource AS r USING (resource_id)
JOIN wafer_data.site AS s USING (site_id)
WHERE m.attributes ->> 'corpus.key' IS NOT NULL
