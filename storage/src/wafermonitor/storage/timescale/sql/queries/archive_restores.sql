-- How often days have come back from the archive.
SELECT coalesce((SELECT value::bigint FROM wafer_data.setting WHERE name = 'archive_restores'), 0)
