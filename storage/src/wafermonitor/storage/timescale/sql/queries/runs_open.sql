-- Open runs of a page, judged at $1, by rank ($2 'failing') or newest first; $27 to $31 and $35 are the place and the
-- rank of the last run of the page before, $32 is how many. There are few of them, and their state is known only when it is asked.
SELECT
  -- include run_answer
FROM wafer_data.known_run r
-- include run_joins
WHERE r.is_open
-- include run_filters
  AND $5::text[] IS DISTINCT FROM '{ended}'
  AND ($5 IS NULL OR j.state = ANY ($5))
  AND ($17::boolean IS NULL OR o.overdue = $17)
  AND ($27::bigint IS NULL
    OR ($2::text = 'failing' AND wafer.failing_rank(j.state, o.overdue, r.result) > $35::integer)
    OR (($2 <> 'failing' OR wafer.failing_rank(j.state, o.overdue, r.result) = $35) AND
      -- include run_after
    ))
ORDER BY
  CASE WHEN $2 = 'failing' THEN wafer.failing_rank(j.state, o.overdue, r.result) END,
  -- include run_newest
LIMIT $32
