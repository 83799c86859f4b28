-- The site beside the time: the runs of a site with few are found in the index alone, without reading every other run. run_bad is made
-- anew with it, so that the indexes of partitions have the names that they have in a new database.
DROP INDEX wafer_data.run_start, wafer_data.run_bad;
CREATE INDEX run_start ON wafer_data.run (start_time, site_id);
CREATE INDEX run_bad ON wafer_data.run (start_time) WHERE result IN ('failure', 'error', 'timeout');
-- A hash index walks through all runs of one id to add another: a program that calls each of its runs `nightly` would slow all writing.
DROP INDEX wafer_data.run_run_id;
CREATE INDEX run_run_id ON wafer_data.run (run_id);
