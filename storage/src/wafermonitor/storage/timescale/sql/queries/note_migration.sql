INSERT INTO wafer_data.schema_migration (name, sha256, release) VALUES ($1, $2, $3)
ON CONFLICT (name) DO UPDATE SET sha256 = excluded.sha256, release = excluded.release, applied_at = now()
