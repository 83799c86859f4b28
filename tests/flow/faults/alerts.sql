-- Alerts opened since $1 (ns).
SELECT rule, resolved_unix_ns IS NULL AS is_open FROM wafer_data.alert WHERE opened_unix_ns >= $1 ORDER BY opened_unix_ns, rule
