  r.start_time <= $28::timestamptz AND (
    coalesce(r.start_unix_ns, -9223372036854775808) < $27::bigint
    OR (coalesce(r.start_unix_ns, -9223372036854775808) = $27 AND (r.trace_id, int8send(r.span_id)) > ($29::uuid, $30::bytea))
    OR (coalesce(r.start_unix_ns, -9223372036854775808) = $27 AND (r.trace_id, int8send(r.span_id)) = ($29, $30)
      AND (SELECT n.name FROM wafer_data.site n WHERE n.site_id = r.site_id) > $31::text)
  )
