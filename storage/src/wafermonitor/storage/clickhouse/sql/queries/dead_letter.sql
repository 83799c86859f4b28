SELECT * EXCEPT (forgotten) FROM (
  SELECT
    -- include letter_columns
    , forgotten
  FROM dead_letter FINAL
  WHERE key = toFixedString(unhex({key:String}), 32) AND signal != ''
  ORDER BY generation DESC
  LIMIT 1
)
WHERE forgotten = 0
