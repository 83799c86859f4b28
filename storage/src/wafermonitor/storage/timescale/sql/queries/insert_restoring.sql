-- The same row may stand in two files: two sites that sent it, or a file that was adopted.
INSERT INTO wafer_data.{made} ({columns}) SELECT {columns} FROM pg_temp.restoring_{table} ON CONFLICT DO NOTHING
