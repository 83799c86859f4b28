(trace_id, span_id, site) IN (
  SELECT trace_id, span_id, site
  FROM run_start
  WHERE start_ns BETWEEN {least:Int64} AND {most:Int64} AND (trace_id, span_id, site) IN (
    -- The message that says the word may claim a later start than the earliest, or none.
    SELECT trace_id, span_id, site
    FROM run_start
    WHERE (start_ns >= {least:Int64} OR start_ns = -9223372036854775808)
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
  )
)
