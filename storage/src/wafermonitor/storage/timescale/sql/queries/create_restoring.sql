-- Where a session puts rows of a restored day before they are known to be no duplicates.
CREATE TEMPORARY TABLE IF NOT EXISTS restoring_{table} ON COMMIT DELETE ROWS AS SELECT {columns} FROM wafer_data.{table} WITH NO DATA
