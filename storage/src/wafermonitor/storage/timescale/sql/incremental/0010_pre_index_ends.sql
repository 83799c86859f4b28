-- Runs that ended in a stretch of time are counted each minute. They stand in the order in which they ended, so which pages hold them is
-- known from the least and the greatest end of each sixteen: a run costs next to nothing to write.
CREATE INDEX IF NOT EXISTS run_end ON wafer_data.run USING brin (end_unix_ns) WITH (pages_per_range = 16, autosummarize = on);
