-- Deltas that are merged a part at a time. One that is there is of an earlier try, which failed.
DROP TABLE IF EXISTS pg_temp.run_waiting;
SELECT wafer_data.stage_runs();
CREATE TEMPORARY TABLE run_waiting (LIKE pg_temp.run_delta)
