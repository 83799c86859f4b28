DELETE FROM wafer_data.metric_late l
USING unnest($1::bytea[], $2::timestamptz[], $3::smallint[]) AS g (key, time, time_ns)
WHERE l.series_id = (SELECT m.series_id FROM wafer_data.metric_series m WHERE m.key = g.key) AND (l.time, l.time_ns) = (g.time, g.time_ns)
