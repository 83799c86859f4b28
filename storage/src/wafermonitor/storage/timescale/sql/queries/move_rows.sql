SELECT wafer_data.move_rows($1::text, $2::text, $3::bigint, $4::bigint)
