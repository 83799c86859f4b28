-- The days that hypertables are written for: TimescaleDB makes a chunk for any day, also for that of a clock which is years off. Rows of
-- days that are not listed here, or closed, go to the late tables. Empty where the tables have native partitions.
CREATE TABLE wafer_data.hot_day (
  day        date PRIMARY KEY,
  closed_at  timestamptz -- since when it takes no rows, because it is compressed (Community edition)
);
