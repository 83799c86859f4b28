-- A page of runs. $1: now. $2 class: 'any' newest first; 'open' by rank, then newest; 'bad' and 'good': ended so, newest first.
-- Then the fields of RunQuery, null where they do not filter, and the order of the last run of the page before. Planned anew for
-- each question (plan_cache_mode), so that a filter that is null costs nothing and a class leaves out the table it cannot be in.
SELECT
  -- include run_answer
FROM wafer_data.known_run r
-- include run_joins
WHERE ($2::text = 'any' OR r.is_open = ($2 = 'open'))
  AND ($2 <> 'bad' OR r.result IN ('failure', 'error', 'timeout'))
  AND ($2 <> 'good' OR r.result IS NULL OR r.result NOT IN ('failure', 'error', 'timeout'))
  AND ($3::text[] IS NULL OR r.site_id = ANY (ARRAY(SELECT n.site_id FROM wafer_data.site n WHERE n.name = ANY ($3))))
  AND ($4::text[] IS NULL OR r.job = ANY ($4))
  AND ($5::text[] IS NULL OR (j.state = ANY ($5) AND (r.is_open OR 'ended' = ANY ($5))))
  AND ($6::text[] IS NULL OR r.result = ANY ($6))
  AND ($7::text[] IS NULL OR r.service = ANY ($7))
  AND ($8::text[] IS NULL OR r.lot_ids && $8)
  AND ($9::text[] IS NULL OR r.substrate_ids && $9)
  AND ($10::text[] IS NULL OR r.equipment = ANY ($10))
  AND ($11::text[] IS NULL OR r.recipe = ANY ($11))
  AND ($12::text[] IS NULL OR r.product = ANY ($12))
  AND ($13::text[] IS NULL OR r.run_id = ANY ($13))
  AND ($14::text[] IS NULL OR NOT EXISTS (
    SELECT FROM unnest($14, $15::text[]) AS a (name, value)
    WHERE (r.attributes::jsonb ->> a.name) IS DISTINCT FROM a.value
  ))
  AND ($16::text IS NULL OR EXISTS (
    SELECT FROM unnest(
      ARRAY[r.job, r.run_id, r.service, r.equipment, r.recipe, r.product, r.owner, r.error_type] || r.lot_ids || r.substrate_ids
    ) AS w (word)
    WHERE strpos(lower(w.word COLLATE pg_catalog."default"), $16) > 0
  ))
  AND ($17::boolean IS NULL OR (o.overdue = $17 AND (r.is_open OR NOT $17)))
  AND ($18::boolean IS NULL OR (r.parent_span_id IS NOT NULL) = $18)
  AND ($19::uuid IS NULL OR (r.trace_id = $19 AND r.parent_span_id = $20::bigint))
  AND ($21::bigint IS NULL OR (r.start_unix_ns >= $21 AND r.start_time >= $22::timestamptz))
  AND ($23::bigint IS NULL OR (coalesce(r.start_unix_ns, -9223372036854775808) < $23 AND r.start_time <= $24::timestamptz))
  AND ($25::double precision IS NULL OR wafer.seconds(r.duration_ns) >= $25)
  AND ($26::double precision IS NULL OR wafer.seconds(r.duration_ns) <= $26)
  AND ($27::integer IS NULL OR wafer.failing_rank(j.state, o.overdue, r.result) >= $27)
  AND ($28::bigint IS NULL
    OR wafer.failing_rank(j.state, o.overdue, r.result) > $27
    OR (r.start_time <= $29::timestamptz AND (
      coalesce(r.start_unix_ns, -9223372036854775808) < $28
      OR (coalesce(r.start_unix_ns, -9223372036854775808) = $28
        AND (r.trace_id, int8send(r.span_id), s.name) > ($30::uuid, $31::bytea, $32::text))
    )))
ORDER BY
  CASE WHEN $2 = 'open' THEN wafer.failing_rank(j.state, o.overdue, r.result) END,
  r.start_time DESC, r.start_unix_ns DESC NULLS LAST, r.trace_id, int8send(r.span_id), s.name
LIMIT $33
