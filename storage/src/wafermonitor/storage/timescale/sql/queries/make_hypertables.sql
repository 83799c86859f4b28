DO $$
BEGIN
  IF wafer_data.tier() <> 'plain' THEN
    PERFORM wafer_data.make_hypertable(name) FROM wafer_data.day_table WHERE NOT is_hypertable;
  END IF;
END
$$;
