"""The read API's own metrics.

In: what guard and stream observe. Out: metrics in a registry.  Called by: app, guard, stream, routes.service.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


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
