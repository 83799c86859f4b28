DROP TABLE pg_temp.run_waiting
