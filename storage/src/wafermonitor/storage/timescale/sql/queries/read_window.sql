SELECT oldest, newest FROM wafer_data.hot_window()
