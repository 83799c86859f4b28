"""Metric names: ours, and those of OpenTelemetry that we send.

In: nothing. Out: one constant per metric. Called by: instrumentation (sends them), query and ui (read them).

Generated from otel-semconv/registry by `make generate`; change it there.
"""

from typing import Final

WAFER_JOB_DURATION: Final = "wafer.job.duration"
"""How long runs took. Delta temporality, because a batch process counts only its own runs. Unit: s."""

PROCESS_CPU_TIME: Final = "process.cpu.time"
"""OpenTelemetry's `process.cpu.time`."""

PROCESS_MEMORY_USAGE: Final = "process.memory.usage"
"""OpenTelemetry's `process.memory.usage`."""

PROCESS_UPTIME: Final = "process.uptime"
"""OpenTelemetry's `process.uptime`."""
