"""The words: every attribute, event and metric name that WaferMonitor sends or reads.

In: nothing. Out: constants in `attributes`, `events`, `metrics`, generated from `otel-semconv/registry`, and
the two values that mark our telemetry.
Called by: every component. Imports nothing but the standard library.
"""

from wafermonitor.semconv.schema import SCHEMA_URL

SCOPE_NAME = "wafer"
"""The instrumentation scope of run spans, lifecycle events and beats."""

__all__ = ["SCHEMA_URL", "SCOPE_NAME"]
