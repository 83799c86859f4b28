SELECT current_setting('server_version') AS version, (SELECT max(last_seen_unix_ns) FROM wafer_data.app) AS newest_received_ns
