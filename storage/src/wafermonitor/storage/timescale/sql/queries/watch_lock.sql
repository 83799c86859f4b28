-- What is wanted and what is waited for change one after the other: a tick that began before an expectation was forgotten must not bring
-- back what it waited for.
SELECT pg_advisory_xact_lock($1)
