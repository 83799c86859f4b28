-- Every index of `run` costs about 2 µs for each run that ends. These are what the read API needs to answer fast at half a million runs.

-- Read backwards: newest rows then go to the right end of an index (or of each name's part of it), where pages fill up.
DROP INDEX wafer_data.run_start, wafer_data.run_bad, wafer_data.run_job, wafer_data.run_service, wafer_data.run_equipment,
  wafer_data.run_recipe, wafer_data.run_product;
CREATE INDEX run_start ON wafer_data.run (start_time);
CREATE INDEX run_bad ON wafer_data.run (start_time) WHERE result IN ('failure', 'error', 'timeout');
CREATE INDEX run_job ON wafer_data.run (job, start_time);
CREATE INDEX run_service ON wafer_data.run (service, start_time);
CREATE INDEX run_equipment ON wafer_data.run (equipment, start_time) WHERE equipment IS NOT NULL;
CREATE INDEX run_recipe ON wafer_data.run (recipe, start_time) WHERE recipe IS NOT NULL;
CREATE INDEX run_product ON wafer_data.run (product, start_time) WHERE product IS NOT NULL;
-- Nobody asks for a range of run ids.
DROP INDEX wafer_data.run_run_id;
CREATE INDEX run_run_id ON wafer_data.run USING hash (run_id);
-- The planner never took it: sites are few, and the newest runs of one are soon found by time. A merge that was planned while
-- `run` was empty did take it, and then read every run of the site for each key.
DROP INDEX wafer_data.run_site;
-- One index for both, and entries gathered before they are sorted in: a lot has many runs.
DROP INDEX wafer_data.run_lots, wafer_data.run_substrates;
CREATE INDEX run_material ON wafer_data.run USING gin (lot_ids, substrate_ids) WITH (fastupdate = on, gin_pending_list_limit = 512);
