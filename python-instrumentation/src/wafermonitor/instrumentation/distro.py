"""`opentelemetry-instrument` with WaferMonitor: sensible defaults, and runs announce themselves.

In: an unchanged program that opentelemetry-instrument starts. Out: OpenTelemetry's own set-up with our defaults, and our
processor on its providers. Called by: opentelemetry-instrument, through the entry points `opentelemetry_distro` (before its
set-up) and `opentelemetry_post_instrument` (after it). Among several distros OTEL_PYTHON_DISTRO=wafermonitor chooses this one.
"""

from __future__ import annotations

import os
from typing import Any

from opentelemetry.instrumentation.distro import BaseDistro  # type: ignore[attr-defined]  # that module has no types

from wafermonitor.instrumentation import providers
from wafermonitor.instrumentation.config import Config


class Distro(BaseDistro):  # type: ignore[misc]  # as above
    """OTLP over HTTP to the Collector on this host, and 1 s instead of 10 for an answer. What is set already stays."""

    def _configure(self, **kwargs: Any) -> None:
        del kwargs
        config = Config.load(strict=False)
        sends = "otlp" if config.sends_otlp else "none"
        defaults = {
            "OTEL_TRACES_EXPORTER": sends,
            "OTEL_LOGS_EXPORTER": sends,
            "OTEL_METRICS_EXPORTER": sends,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_ENDPOINT": config.endpoint,
            "OTEL_EXPORTER_OTLP_TIMEOUT": str(config.timeout_s),
        }
        for name, value in defaults.items():
            os.environ.setdefault(name, value)


def after() -> None:
    """Watch the spans of the providers that opentelemetry-instrument has made."""
    providers.install()
