    SELECT site, arrayJoin(arrayFlatten(arrayMap(q -> arrayMap(j -> (q, j), jobs), quarters))) AS place
    FROM run FINAL
    PREWHERE (trace_id, span_id, site) IN (
      SELECT trace_id, span_id, site
      FROM run_change
      WHERE changed_us BETWEEN {least:UInt64} AND {most:UInt64}
        AND call IN (SELECT toFixedString(unhex(arrayJoin({calls:Array(String)})), 6))
    )
