"""The read API's own metrics and spans.

In: what guard and stream observe. Out: metrics in a registry, and spans by OTLP when `OTEL_EXPORTER_OTLP_ENDPOINT` is set.
Called by: app, guard, stream, command.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from wafermonitor.semconv import attributes as names

SERVICE = "wafer-query"


class Meters:
    """The service's own metrics, one registry per app so that two in one process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("wafer_query_requests", "Answers sent", ["route", "status"], registry=self.registry)
        self.seconds = Histogram(
            "wafer_query_request_seconds",
            "Time until an answer began",
            ["route"],
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=self.registry,
        )
        self.streams = Gauge("wafer_query_streams", "Open event streams", registry=self.registry)
        self.stream_runs = Counter("wafer_query_stream_runs", "Runs sent to all streams together", registry=self.registry)
        self.stream_resets = Counter("wafer_query_stream_resets", "Streams told to load afresh", registry=self.registry)
        self.store_errors = Counter(
            "wafer_query_store_errors", "Polls of the change feed that the store did not answer", registry=self.registry
        )


def export_spans() -> Callable[[], None]:
    """Send the API's own spans when an endpoint is set; the function given back flushes and stops that."""
    if not (os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")):
        return lambda: None
    service = os.environ.get("OTEL_SERVICE_NAME") or SERVICE
    provider = TracerProvider(resource=Resource.create({names.SERVICE_NAME: service}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider.shutdown
