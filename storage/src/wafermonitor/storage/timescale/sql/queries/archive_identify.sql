INSERT INTO wafer_data.setting AS s (name, value, description) VALUES ($1::text, $2::text, $3::text)
ON CONFLICT (name) DO UPDATE SET value = excluded.value
