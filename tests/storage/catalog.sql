-- Everything that a migration can make, one line each, without object numbers: two equal schemas give equal lines.
WITH ours AS (SELECT oid, nspname FROM pg_namespace WHERE nspname IN ('wafer', 'wafer_data'))
SELECT line FROM (
  SELECT format('relation %s.%s %s %s %s %s', n.nspname, c.relname, c.relkind, c.reloptions, c.relowner::regrole, c.relacl) AS line
  FROM pg_class c JOIN ours n ON n.oid = c.relnamespace
  UNION ALL
  SELECT format('column %s %s %s %s %s %s %s %s', a.attrelid::regclass, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod),
                a.attnotnull, a.attidentity, a.attgenerated, pg_get_expr(d.adbin, d.adrelid))
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN ours n ON n.oid = c.relnamespace
  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
  WHERE a.attnum > 0
  UNION ALL
  SELECT format('index %s', pg_get_indexdef(i.indexrelid)) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN ours n ON n.oid = c.relnamespace
  UNION ALL
  SELECT format('constraint %s %s %s', k.conrelid::regclass, k.conname, pg_get_constraintdef(k.oid)) FROM pg_constraint k JOIN ours n ON n.oid = k.connamespace
  UNION ALL
  SELECT format('bound %s %s', c.oid::regclass, pg_get_expr(c.relpartbound, c.oid)) FROM pg_class c JOIN ours n ON n.oid = c.relnamespace WHERE c.relispartition
  UNION ALL
  SELECT format('view %s %s', c.oid::regclass, pg_get_viewdef(c.oid)) FROM pg_class c JOIN ours n ON n.oid = c.relnamespace WHERE c.relkind IN ('v', 'm')
  UNION ALL
  SELECT format('function %s %s %s', pg_get_functiondef(p.oid), p.proowner::regrole, p.proacl) FROM pg_proc p JOIN ours n ON n.oid = p.pronamespace WHERE p.prokind = 'f'
  UNION ALL
  SELECT format('type %s.%s', n.nspname, t.typname) FROM pg_type t JOIN ours n ON n.oid = t.typnamespace
  UNION ALL
  SELECT format('trigger %s', pg_get_triggerdef(g.oid)) FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid JOIN ours n ON n.oid = c.relnamespace WHERE NOT g.tgisinternal
) AS all_of_it
ORDER BY line
