-- $1 now, if somebody else says what time it is.
UPDATE wafer_data.alerting_leader SET epoch = epoch + 1 RETURNING epoch, coalesce($1::bigint, wafer_data.now_ns()) AS now_ns
