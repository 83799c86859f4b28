SELECT
  -- include watch_expected_columns
FROM wafer_data.expected_run WHERE NOT settled
ORDER BY expectation, nominal_unix_ns, subject
