-- In the order of the keys: two writers with the same rows then wait for each other, and not in a circle.
INSERT INTO wafer_data.{table} ({columns})
SELECT {columns} FROM pg_temp.staged_{table} ORDER BY {key}
ON CONFLICT DO NOTHING
