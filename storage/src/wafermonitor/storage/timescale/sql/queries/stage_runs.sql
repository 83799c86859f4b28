SELECT wafer_data.stage_runs()
