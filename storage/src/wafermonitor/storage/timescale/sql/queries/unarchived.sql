-- What drop_unarchived($1, $2) would drop: days before $1, and months of runs that are over before $2.
SELECT format('%s %s', t.name, d.day) AS dropped
FROM wafer_data.day_table t CROSS JOIN LATERAL wafer_data.stored_days(t.name) d WHERE d.day < $1::date
UNION ALL
SELECT 'run ' || to_char(m, 'YYYY-MM') FROM wafer_data.stored_months() m WHERE (m + interval '1 month')::date <= $2::date
ORDER BY 1
