  sum(open), sum(ended), sum(success), sum(failure), sum(error), sum(timeout), sum(cancellation), sum(skip), sum(subjobs),
  sum(duration_count), sum(duration_ns), min(duration_min_ns), max(duration_max_ns),
  sum(cpu_count), sum(cpu_ns), min(cpu_min_ns), max(cpu_max_ns),
  sum(memory_count), sum(memory_bytes), min(memory_min_bytes), max(memory_max_bytes),
  sum(queue_count), sum(queue_ns), min(queue_min_ns), max(queue_max_ns),
  sumMap(durations.1, durations.2)
