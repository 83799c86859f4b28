SELECT wafer_data.merge_runs();
COMMIT
