-- As runs_ended, for questions about lots or substrates: few runs hold one, so they are found first (OFFSET 0 is a fence) and then put
-- in order. The planner knows nothing of how rare a name is and would read all runs from the newest on.
SELECT
  -- include run_answer
FROM (
  SELECT false AS is_open, r.*
  FROM (
    SELECT * FROM wafer_data.run m
    WHERE ($8::text[] IS NULL OR m.lot_ids && $8) AND ($9::text[] IS NULL OR m.substrate_ids && $9)
    OFFSET 0
  ) r
  -- include runs_ended_page
