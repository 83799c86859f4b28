-- The start of the run so many places behind the newest in [least, most]: about, for some are told twice, and words may be others.
SELECT start_ns
FROM run_start
WHERE start_ns BETWEEN {least:Int64} AND {most:Int64}
  -- if site
  AND has({site:Array(String)}, site)
  -- end
  -- if ended
  AND ended
  -- end
  -- if bad
  AND hasAny(result, ['failure', 'error', 'timeout'])
  -- end
  -- if good
  AND ended AND NOT hasAny(result, ['failure', 'error', 'timeout'])
  -- end
  -- if equipment
  AND hasAny(equipment, {equipment:Array(String)})
  -- end
  -- if recipe
  AND hasAny(recipe, {recipe:Array(String)})
  -- end
  -- if product
  AND hasAny(product, {product:Array(String)})
  -- end
  -- if job
  AND hasAny(job, {job:Array(String)})
  -- end
  -- if app
  AND hasAny(app, {app:Array(String)})
  -- end
  -- if result
  AND hasAny(result, {result:Array(String)})
  -- end
ORDER BY start_ns DESC
LIMIT 1 OFFSET {count:UInt32}
