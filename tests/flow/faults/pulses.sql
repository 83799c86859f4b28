-- Of the pulses: how many that were due at $1 (ns) or later have come, and how many before the newest of these have not.
SELECT
  count(*) FILTER (WHERE state = 'met' AND nominal_unix_ns >= $1) AS come,
  count(*) FILTER (WHERE state <> 'met' AND nominal_unix_ns < newest) AS lacking
FROM wafer_data.expected_run
CROSS JOIN (SELECT max(nominal_unix_ns) AS newest FROM wafer_data.expected_run WHERE expectation = 'pulse' AND state = 'met') n
WHERE expectation = 'pulse'
