-- Ended runs of a page, newest first; $2 'bad' and 'good' restrict to results, 'all' does not. $27 to $31 are the place of the last run
-- of the page before, $32 is how many. Each partition has an index that gives its newest, so that only the page itself is read.
SELECT
  -- include run_answer
FROM (
  SELECT false AS is_open, r.*
  FROM wafer_data.run r
  -- include runs_ended_page
