-- In force at $1, or now.
SELECT silence_id, until_unix_ns, who, why, created_unix_ns, site, job, rule
FROM wafer_data.silence
WHERE created_unix_ns <= coalesce($1::bigint, wafer_data.now_ns()) AND until_unix_ns > coalesce($1, wafer_data.now_ns())
ORDER BY created_unix_ns, silence_id
