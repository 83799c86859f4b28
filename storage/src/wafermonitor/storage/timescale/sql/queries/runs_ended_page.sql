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
