"""The read API's own metrics.

In: what guard and stream observe. Out: metrics in a registry.  Called by: app, guard, stream, routes.service.
"""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from wafermonitor.storage.protocol import StepHealth


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
        self.stream_alerts = Counter("wafer_query_stream_alerts", "Alerts sent to all streams together", registry=self.registry)
        self.stream_resets = Counter("wafer_query_stream_resets", "Streams told to load afresh", registry=self.registry)
        self.store_errors = Counter(
            "wafer_query_store_errors", "Polls of the change feed that the store did not answer", registry=self.registry
        )
        self.evaluated = Gauge(
            "wafer_query_evaluated_timestamp_seconds",
            "When alerting last judged its rules, as the store tells; 0: never, or this store keeps no alerts",
            registry=self.registry,
        )
        self._steps = {
            name: Gauge(
                f"wafer_store_step_{name}", f"Of each step of the store's maintenance: {text}", ["step"], registry=self.registry
            )
            for name, text in (
                ("age_seconds", "time since it last succeeded"),
                ("late", "1 when that is longer than it should be"),
                ("failing", "1 when its last round failed"),
            )
        }

    def maintenance(self, steps: Sequence[StepHealth]) -> None:
        """How maintenance stands now; nothing is told of steps that are not among `steps`."""
        for gauge in self._steps.values():
            gauge.clear()
        for one in steps:
            self._steps["late"].labels(one.step).set(one.late)
            self._steps["failing"].labels(one.step).set(one.failing)
            if one.age_s is not None:
                self._steps["age_seconds"].labels(one.step).set(one.age_s)
