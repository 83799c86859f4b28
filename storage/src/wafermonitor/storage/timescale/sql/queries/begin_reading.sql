-- Planned with the values at hand: a filter that is null disappears, and a time leaves out partitions.
SET LOCAL plan_cache_mode = force_custom_plan;
SET LOCAL jit = off
