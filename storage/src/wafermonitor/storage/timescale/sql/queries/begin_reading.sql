-- Planned with the values at hand: a filter that is null disappears, and a time leaves out partitions.
SET LOCAL plan_cache_mode = force_custom_plan;
-- Every answer is a page: to start workers takes ten times as long as to read it.
SET LOCAL max_parallel_workers_per_gather = 0;
SET LOCAL jit = off
