  -- The day that a name is noted as in use on: the database's, but none that maintenance has seen the end of, should its clock go back.
  SELECT greatest((now() AT TIME ZONE 'UTC')::date, (SELECT value::date FROM wafer_data.setting WHERE name = 'names_day')) AS day
