SELECT wafer_data.merge_runs($1::json)
