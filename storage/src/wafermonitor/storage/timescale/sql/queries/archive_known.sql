SELECT path FROM wafer_data.archive_manifest WHERE path = ANY ($1::text[])
