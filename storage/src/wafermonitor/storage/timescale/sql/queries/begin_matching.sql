-- For thousands of questions in one statement: planned with their number at hand, and each of them by an index, for what was empty when
-- it was last counted must not be read from end to end a thousand times once it is full.
-- include begin_reading
;
SET LOCAL enable_seqscan = off
