  delivery_id, channel, kind, group_key, alerts, created_unix_ns, due_unix_ns, state, attempts, answer, settled_unix_ns
