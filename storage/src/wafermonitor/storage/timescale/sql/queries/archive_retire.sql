UPDATE wafer_data.archive_manifest SET retired_version = $2::bigint, retired_at = now() WHERE path = ANY ($1::text[]) AND retired_version IS NULL
