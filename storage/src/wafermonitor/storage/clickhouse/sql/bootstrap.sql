-- Which files of incremental/ have run.
CREATE TABLE IF NOT EXISTS schema_migration (
  name String,
  applied DateTime('UTC') DEFAULT now()
)
ENGINE = ReplacingMergeTree() -- shard: cityHash64(name)
ORDER BY name
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
