-- As of $1, or of the database's clock where that is behind.
INSERT INTO wafer_data.setting AS s (name, value, description)
VALUES ('names_day', least($1::date, (now() AT TIME ZONE 'UTC')::date)::text, 'the last day on which names were looked through')
ON CONFLICT (name) DO UPDATE SET value = greatest(s.value::date, excluded.value::date)::text
