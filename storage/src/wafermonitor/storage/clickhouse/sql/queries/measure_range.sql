-- The same of all runs whose trace ids begin with this byte.
INSERT INTO run_measured
SELECT
  -- include run_measures
ARRAY JOIN arrayFlatten(arrayMap(q -> arrayMap(j -> (q, j), jobs), quarters)) AS place
PREWHERE trace_id BETWEEN toFixedString(unhex({first:String}), 16) AND toFixedString(unhex({last:String}), 16)
