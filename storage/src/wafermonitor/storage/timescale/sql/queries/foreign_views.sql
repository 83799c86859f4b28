-- Views of others that read a native table by day: they would go with it.
SELECT DISTINCT v.oid::regclass::text AS view
FROM wafer_data.day_table t
JOIN pg_depend d ON d.refobjid = t.hot AND d.refclassid = 'pg_class'::regclass AND d.classid = 'pg_rewrite'::regclass
JOIN pg_rewrite r ON r.oid = d.objid
JOIN pg_class v ON v.oid = r.ev_class
WHERE NOT t.is_hypertable AND v.relnamespace <> ALL (ARRAY['wafer', 'wafer_data']::regnamespace[])
ORDER BY view
