-- $1 days of runs, $2 a day: 20 jobs of two sites, 20 tools, 40 recipes, 8 products.
INSERT INTO wafer_data.run (
  trace_id, span_id, site_id, end_rank, start_time, start_unix_ns, end_unix_ns, job, run_id, service, equipment, recipe, product, result,
  error_type, cpu_s, memory_bytes, nominal_unix_ns, attributes
)
SELECT
  gen_random_uuid(), i, 1 + i % 2, 2, t, ns, ns + ((20 + 60 * random()) * 1e9)::bigint, 'job ' || i % 20, 'run ' || i, 'app ' || i % 3,
  'tool ' || (random() * 19)::integer, 'recipe ' || (random() * 39)::integer, 'product ' || i % 8, result,
  CASE result WHEN 'failure' THEN 'ValueError' END, random() * 100, (random() * 1e9)::bigint, ns - (random() * 1e10)::bigint, '{}'
FROM generate_series(1, $1::integer * $2::integer) i
CROSS JOIN LATERAL (
  SELECT now() - (random() + i * 0) * $1::integer * interval '1 day' AS t, CASE WHEN random() + i * 0 < 0.95 THEN 'success' ELSE 'failure' END AS result
) r
CROSS JOIN LATERAL (SELECT (extract(epoch FROM t) * 1000000000)::bigint AS ns) n
