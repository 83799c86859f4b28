INSERT INTO wafer_data.alerting_note AS n (name, text) SELECT * FROM unnest($1::text[], $2::text[])
ON CONFLICT (name) DO UPDATE SET text = excluded.text WHERE n.text <> excluded.text
