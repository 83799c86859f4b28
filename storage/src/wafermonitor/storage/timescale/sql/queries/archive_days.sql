SELECT signal, day, dropped_at IS NOT NULL AS dropped, kept_until FROM wafer_data.archive_day WHERE signal = $1::text ORDER BY day
