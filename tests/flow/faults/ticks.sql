SELECT epoch FROM wafer_data.alerting_leader
