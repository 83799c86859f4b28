  place.1 AS quarter, site, place.2 AS job, trace_id, span_id, {version:UInt64} AS version,
  ifNull(start_ns, 0) BETWEEN 31536000000000000 AND 3786912000000000000
    AND place = (intDiv(ifNull(start_ns, 0), 900000000000), run.job.2) AS counted,
  intDiv(ifNull(start_ns, 0), 1000000000) AS start_s, ending.1 > 0 AS ended, parent_span_id.1 > 0 AS subjob, ending.3 AS result,
  if(service.1 > 0, service.2, NULL), if(equipment.1 > 0, equipment.2, NULL), if(recipe.1 > 0, recipe.2, NULL),
  if(product.1 > 0, product.2, NULL),
  if(ended AND bitTest(ending.5, 0) AND ending.2 >= start_ns, ending.2 - start_ns, NULL),
  if(ended AND cpu_s BETWEEN 0 AND 1e9, toInt64(roundBankers(assumeNotNull(cpu_s) * 1e9)), NULL),
  if(ended AND run.memory_bytes >= 0, run.memory_bytes, NULL),
  if(ended AND nominal_time_ns.1 > 0 AND nominal_time_ns.2 > 0, start_ns - nominal_time_ns.2, NULL),
  toDateTime(intDiv(ifNull(received_ns, 4102444800000000000), 1000000000), 'UTC')
FROM run FINAL
