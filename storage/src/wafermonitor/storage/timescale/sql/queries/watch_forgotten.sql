-- Which of $1 are no expectations any more, or are not as they were when they were changed at $2.
SELECT known.name FROM unnest($1::text[], $2::bigint[]) AS known (name, changed_unix_ns)
WHERE NOT EXISTS (
  SELECT FROM wafer_data.expectation e WHERE e.name = known.name AND e.changed_unix_ns = known.changed_unix_ns
)
