-- Newest first. $1 sites, $2 signals, $3 part of the reason in lower case, $4 and $5 (received, key) of the page before, $6 how many.
SELECT
  -- include dead_letter_answer
WHERE ($1::text[] IS NULL OR s.name = ANY ($1))
  AND ($2::text[] IS NULL OR d.signal = ANY ($2))
  AND ($3::text IS NULL OR strpos(lower(d.reason), $3) > 0)
  AND ($4::bigint IS NULL OR (d.received_unix_ns <= $4 AND (d.received_unix_ns < $4 OR d.key > $5::bytea)))
ORDER BY d.received_unix_ns DESC, d.key
LIMIT $6
