-- In: names. Out: those that there were.
WITH gone AS (
  DELETE FROM wafer_data.expectation WHERE name = ANY ($1::text[]) RETURNING name
), waited AS (
  DELETE FROM wafer_data.expected_run WHERE expectation = ANY ($1) AND NOT settled
)
SELECT name FROM gone
