UPDATE wafer_data.archive_manifest SET removed_at = now() WHERE path = ANY ($1::text[]) AND retired_version IS NOT NULL
