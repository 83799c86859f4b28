-- Runs of these calls, as all their messages tell them now, into every place where they are or may have been counted.
INSERT INTO run_measured
SELECT
  -- include run_measures
ARRAY JOIN arrayFlatten(arrayMap(q -> arrayMap(j -> (q, j), jobs), quarters)) AS place
PREWHERE (trace_id, span_id, site) IN (
  SELECT trace_id, span_id, site
  FROM run_change
  WHERE changed_us BETWEEN {least:UInt64} AND {most:UInt64}
    AND call IN (SELECT toFixedString(unhex(arrayJoin({calls:Array(String)})), 6))
)
