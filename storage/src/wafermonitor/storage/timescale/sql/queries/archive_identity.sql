SELECT name, value FROM wafer_data.setting WHERE name IN ('archive', 'archive_turns')
