SELECT path FROM wafer_data.archive_manifest WHERE removed_at IS NULL AND retired_at < now() - make_interval(secs => $1::double precision * 3600) ORDER BY path
