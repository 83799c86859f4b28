-- What expectations ($1) wait for, due at $2 or later.
DELETE FROM wafer_data.expected_run WHERE expectation = ANY ($1::text[]) AND NOT settled AND nominal_unix_ns >= $2
