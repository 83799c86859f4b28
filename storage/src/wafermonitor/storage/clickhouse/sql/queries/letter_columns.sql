  lower(hex(key)), site, signal, reason, hex(sample), received_ns, retries, retried
