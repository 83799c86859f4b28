  WHERE ifNull(start_ns, -9223372036854775808) BETWEEN {least:Int64} AND {most:Int64}
    -- if after
    AND (ifNull(start_ns, -9223372036854775808) < {after_start:Int64} OR (
      ifNull(start_ns, -9223372036854775808) = {after_start:Int64}
      AND (trace_id, span_id, site)
        > (toFixedString(unhex({after_trace:String}), 16), toFixedString(unhex({after_span:String}), 8), {after_site:String})
    ))
    -- end
    -- if open
    AND ending.1 = 0
    -- end
    -- if ended
    AND ending.1 > 0
    -- end
    -- if bad
    AND ending.1 > 0 AND ending.3 IN ('failure', 'error', 'timeout')
    -- end
    -- if good
    AND ending.1 > 0 AND ending.3 NOT IN ('failure', 'error', 'timeout')
    -- end
    -- if site
    AND has({site:Array(String)}, site)
    -- end
    -- if job
    AND has({job:Array(String)}, job.2)
    -- end
    -- if result
    AND has({result:Array(String)}, ending.3)
    -- end
    -- if app
    AND has({app:Array(String)}, service.2)
    -- end
    -- if equipment
    AND has({equipment:Array(String)}, equipment.2)
    -- end
    -- if recipe
    AND has({recipe:Array(String)}, recipe.2)
    -- end
    -- if product
    AND has({product:Array(String)}, product.2)
    -- end
    -- if run_id
    AND has({run_id:Array(String)}, run_id.2)
    -- end
    -- if lot
    AND hasAny(lot_ids.2, {lot:Array(String)})
    -- end
    -- if substrate
    AND hasAny(substrate_ids.2, {substrate:Array(String)})
    -- end
    -- if subjobs
    AND (parent_span_id.1 > 0) = {subjobs:Bool}
    -- end
    -- if parent
    AND parent_span_id.1 > 0 AND parent_span_id.2 = toFixedString(unhex({parent_span:String}), 8)
    -- end
    -- if timed
    -- A second more on each side, for what doubles lose of ns.
    AND start_ns IS NOT NULL AND bitTest(ending.5, 0)
    AND toFloat64(ending.2 - ifNull(start_ns, 0)) / 1e9
      BETWEEN {min_duration_s:Float64} - 1 AND {max_duration_s:Float64} + 1
    -- end
    -- if attributes
    AND arrayAll(
      (name, value) -> multiIf(
        NOT JSONHas(attributes.2, name), false,
        toString(JSONType(attributes.2, name)) = 'String', JSONExtractString(attributes.2, name) = value,
        toString(JSONType(attributes.2, name)) IN ('Int64', 'UInt64', 'Bool', 'Null'), JSONExtractRaw(attributes.2, name) = value,
        true
      ),
      {names:Array(String)}, {values:Array(String)}
    )
    -- end
    -- if text
    AND positionCaseInsensitiveUTF8(arrayStringConcat(arrayConcat(
      [job.2, run_id.2, service.2, equipment.2, recipe.2, product.2, owner.2, ending.4], lot_ids.2, substrate_ids.2
    ), '\n'), {text:String}) > 0
    -- end
