-- The newest state of the archive.
SELECT greatest(
  (SELECT max(greatest(version, retired_version)) FROM wafer_data.archive_manifest), (SELECT max(dropped_version) FROM wafer_data.archive_day), 0
)
