SELECT
  -- include dead_letter_answer
WHERE d.key = $1::bytea
