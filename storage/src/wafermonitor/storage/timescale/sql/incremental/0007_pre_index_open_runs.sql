-- Runs that never tell their end may be many: those whose month has left are found by their start, and of those that are judged each
-- minute only the ones that can be lost are read. No sign of life changes what these indexes hold.
CREATE INDEX run_open_start ON wafer_data.run_open (start_time);
CREATE INDEX run_open_beating ON wafer_data.run_open (heartbeat_interval_s) WHERE heartbeat_interval_s > 0 AND inferred IS NOT TRUE;
CREATE INDEX run_open_process ON wafer_data.run_open (process_key) WHERE process_key IS NOT NULL;
