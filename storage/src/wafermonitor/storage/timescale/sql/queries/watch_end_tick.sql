-- $1 the epoch of whoever stores, $2 its now. No row: another leads by now.
UPDATE wafer_data.alerting_leader SET ticked_unix_ns = $2 WHERE epoch = $1 RETURNING epoch
