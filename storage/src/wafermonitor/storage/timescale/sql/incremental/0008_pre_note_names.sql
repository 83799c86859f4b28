-- When a name was last in use, by day: a writer notes it at most once a day, so that maintenance can delete names that no row has any
-- more (names.sql). No index holds it, and pages keep room for the new version of a row beside the old one.
ALTER TABLE wafer_data.scope ADD COLUMN seen date NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')::date;
ALTER TABLE wafer_data.resource ADD COLUMN seen date NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')::date;
ALTER TABLE wafer_data.metric_series ADD COLUMN seen date NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')::date;
ALTER TABLE wafer_data.resource SET (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.05);
ALTER TABLE wafer_data.metric_series SET (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.05);

INSERT INTO wafer_data.setting (name, value, description) VALUES
  ('names_day', '-infinity', 'the last day on which names were looked through: none is noted as last used before it');
