SELECT
  CASE
    WHEN s.snapshot IS NULL THEN 0
    WHEN wafer_data.has_unrolled(s.snapshot) THEN extract(epoch FROM clock_timestamp() - s.taken_at)
    ELSE 0
  END::double precision AS lag_s,
  s.built_from > '-infinity' AS building
FROM wafer_data.rollup_state s
