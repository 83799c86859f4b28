-- Ended runs of a page, newest first; $2 'bad' and 'good' restrict to results, 'all' does not. $27 to $31 are the place of the last run
-- of the page before, $32 is how many. Each partition has an index that gives its newest, so that only the page itself is read.
SELECT
  -- include run_answer
FROM (
  SELECT false AS is_open, r.*
  FROM wafer_data.run r
  WHERE ($2::text <> 'bad' OR r.result IN ('failure', 'error', 'timeout'))
    AND ($2 <> 'good' OR r.result IS NULL OR r.result NOT IN ('failure', 'error', 'timeout'))
    AND ($5::text[] IS NULL OR 'ended' = ANY ($5))
    AND $17::boolean IS NOT TRUE
  -- include run_filters
    AND ($27::bigint IS NULL OR (
      -- include run_after
    ))
  ORDER BY
    -- include run_newest
  LIMIT $32
) r
-- include run_joins
