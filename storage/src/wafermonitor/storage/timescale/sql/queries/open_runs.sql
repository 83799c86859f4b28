-- How many open runs of each site are in which state at $1; what was closed by inference is not counted.
SELECT s.name AS site, j.state, count(*) AS runs
FROM wafer_data.known_run r
-- include run_joins
WHERE r.is_open AND NOT coalesce(r.inferred, false)
GROUP BY s.name, j.state
