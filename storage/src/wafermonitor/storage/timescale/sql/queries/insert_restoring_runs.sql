-- As a transaction of long ago, so that nobody hears of them as of a change.
INSERT INTO wafer_data.{made} ({columns}, changed_xid) SELECT {columns}, '3' FROM pg_temp.restoring_{table} ON CONFLICT DO NOTHING
