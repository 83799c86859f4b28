-- When an item that says no time of its own was first delivered: the time that every later delivery of it takes.
-- `digest` is what tells the item apart without a time (receiver/README.md); maintenance forgets what is older than
-- WAFER_STORAGE_REMEMBER_ARRIVALS_S.
CREATE TABLE wafer_data.arrival (
  digest           bytea PRIMARY KEY,
  arrived_unix_ns  bigint NOT NULL
);
CREATE INDEX arrival_time ON wafer_data.arrival (arrived_unix_ns);
