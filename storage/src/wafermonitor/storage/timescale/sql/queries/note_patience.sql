-- After how many seconds ($2) without success each step ($1) of maintenance is late, as those who maintain are set.
INSERT INTO wafer_data.setting AS s (name, value, description)
SELECT 'patience_s ' || g.step, g.seconds::text, 'when a step of maintenance is late: noted by whoever maintains'
FROM unnest($1::text[], $2::double precision[]) AS g (step, seconds)
ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE s.value <> excluded.value
