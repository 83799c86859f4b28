  r.key AS resource_key, r.feed_id, r.service, r.service_version, r.process_key, r.attributes AS resource_attributes,
  c.key AS scope_key, c.name AS scope_name, c.version AS scope_version, c.attributes AS scope_attributes,
