"""Which version of the names this is.

In: nothing. Out: the schema URL that spans and log records carry. Called by: instrumentation, collector.

Generated from otel-semconv/registry by `make generate`; change it there.
"""

from typing import Final

SCHEMA_URL: Final = "https://wafermonitor.example/schemas/0.1.0"
"""Identifies the registry; nothing is fetched from it."""
