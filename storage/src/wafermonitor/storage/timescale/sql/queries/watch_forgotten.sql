-- Which of $1 are no expectations any more.
SELECT name FROM unnest($1::text[]) AS known (name) WHERE NOT EXISTS (SELECT FROM wafer_data.expectation e WHERE e.name = known.name)
