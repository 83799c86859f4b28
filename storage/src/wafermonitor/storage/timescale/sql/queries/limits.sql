SELECT margin_s, behind_s, loss_floor_s, close_after_s, dark_s, silent_intervals, lost_intervals FROM wafer.limits
