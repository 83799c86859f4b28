-- include begin_writing
;
SELECT wafer_data.stage_runs()
