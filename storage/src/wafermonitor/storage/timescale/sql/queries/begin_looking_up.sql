-- For rows by their ids: planned once for a connection, because a plan for a month of days takes twenty times as long as what it finds.
-- Such a plan knows no sizes: a day that was empty when it was made must not be read from end to end once it is full. Of compressed
-- days (Community) that is how they are read. Nor by several processes: to start them takes longer than to look.
SET LOCAL plan_cache_mode = force_generic_plan;
SET LOCAL max_parallel_workers_per_gather = 0;
SET LOCAL jit = off;
SELECT set_config('enable_seqscan', CASE wafer_data.tier() WHEN 'community' THEN 'on' ELSE 'off' END, true)
