INSERT INTO wafer_data.silence (silence_id, until_unix_ns, who, why, created_unix_ns, site, job, rule) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (silence_id) DO UPDATE SET
  until_unix_ns = excluded.until_unix_ns, who = excluded.who, why = excluded.why, created_unix_ns = excluded.created_unix_ns,
  site = excluded.site, job = excluded.job, rule = excluded.rule
