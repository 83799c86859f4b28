-- The archive: which files there are, and which days have left the store.

-- A file stands here only after it was read back and counted. `version` is the state of the archive that first had it,
-- `retired_version` the first that has it no more (it was merged into another file, or is too old).
CREATE TABLE wafer_data.archive_manifest (
  path             text COLLATE "C" PRIMARY KEY,
  signal           text COLLATE "C" NOT NULL,
  site             text COLLATE "C" NOT NULL,
  day              date NOT NULL,
  row_count        bigint NOT NULL,
  size_bytes       bigint NOT NULL,
  sha256           bytea NOT NULL,
  checksum         bytea NOT NULL,
  from_unix_ns     bigint NOT NULL,
  to_unix_ns       bigint NOT NULL,
  recorded_at      timestamptz NOT NULL DEFAULT now(),
  version          bigint NOT NULL,
  retired_version  bigint,
  retired_at       timestamptz,
  removed_at       timestamptz
);
CREATE INDEX archive_manifest_day ON wafer_data.archive_manifest (signal, day, site);

-- A day of a signal that the archive holds whole. `dropped_at` decides who answers for it: empty, the store; set, the archive
-- and the late rows. `kept_until`: it was brought back, and is not dropped again before.
CREATE TABLE wafer_data.archive_day (
  signal           text COLLATE "C" NOT NULL,
  day              date NOT NULL,
  recorded_at      timestamptz NOT NULL DEFAULT now(),
  dropped_at       timestamptz,
  dropped_version  bigint,
  kept_until       date,
  PRIMARY KEY (signal, day)
);

INSERT INTO wafer_data.setting (name, value, description) VALUES
  ('fenced_before', '-infinity', 'rows of days before this one are late, because these days are archived');
