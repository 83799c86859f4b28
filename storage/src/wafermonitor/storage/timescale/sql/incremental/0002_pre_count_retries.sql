-- What became of a dead letter that was sent again.
ALTER TABLE wafer_data.dead_letter
  ADD COLUMN retries integer NOT NULL DEFAULT 0,
  ADD COLUMN retried_unix_ns bigint,
  ADD COLUMN answer text;
-- The order in which they are listed.
DROP INDEX wafer_data.dead_letter_received;
CREATE INDEX dead_letter_received ON wafer_data.dead_letter (received_unix_ns DESC, key);
