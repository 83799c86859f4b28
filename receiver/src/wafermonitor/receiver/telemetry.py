"""The receiver's own measures.

In: what the other modules observe. Out: the text of `/metrics`. Called by: `server`, `pipeline`, `otlp_grpc`, `otlp_http`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from wafermonitor.receiver.errors import ReceiverError

_GROUPS = (1, 4, 16, 64, 256, 1024, 4096, 16384)
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Telemetry:
    """One receiver's measures, in a registry of its own: several receivers in one process do not meet."""

    def __init__(self, held_bytes: Callable[[], float]) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "wafer_receiver_requests",
            "Requests by how they were answered",
            ["transport", "signal", "answer"],
            registry=registry,
        )
        self.bytes = Counter("wafer_receiver_bytes", "Request bytes after decompression", ["signal"], registry=registry)
        self.items = Counter(
            "wafer_receiver_items",
            "Spans, log records and points by what became of them",
            ["signal", "fate"],
            registry=registry,
        )
        self.refusals = Counter("wafer_receiver_refusals", "Requests refused, by reason", ["reason"], registry=registry)
        self.group_requests = Histogram(
            "wafer_receiver_group_requests", "Requests in one transaction", buckets=_GROUPS, registry=registry
        )
        self.group_items = Histogram(
            "wafer_receiver_group_items", "Items in one transaction", buckets=_GROUPS, registry=registry
        )
        self.commit_s = Histogram(
            "wafer_receiver_commit_seconds", "From the first row sent to the commit", buckets=_SECONDS, registry=registry
        )
        self.gauge("queue_bytes", "Bytes of requests that are not yet answered", held_bytes)
        self.connections = Counter(
            "wafer_receiver_connections_closed",
            "HTTP connections that the receiver closed, by reason",
            ["reason"],
            registry=registry,
        )
        # A label look-up for each request would cost as much as the answer.
        self._ok: dict[tuple[str, str], Counter] = {}

    def gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        """A measure that is read when it is asked for."""
        Gauge(f"wafer_receiver_{name}", text, registry=self.registry).set_function(value)

    def info(self, name: str, text: str, **labels: str) -> None:
        """A fact that does not change while the receiver runs."""
        Gauge(f"wafer_receiver_{name}", text, list(labels), registry=self.registry).labels(**labels).set(1)

    def committed(self, took_s: float, requests: int, fates: Mapping[tuple[str, str], int], sizes: Mapping[str, int]) -> None:
        """Count a transaction: items by (signal, fate), bytes by signal."""
        self.commit_s.observe(took_s)
        self.group_requests.observe(requests)
        items = 0
        for (signal, fate), number in fates.items():
            self.items.labels(signal, fate).inc(number)
            items += number if fate == "stored" else 0
        self.group_items.observe(items)
        for signal, number in sizes.items():
            self.bytes.labels(signal).inc(number)

    def answered(self, transport: str, signal: str, error: ReceiverError | None) -> None:
        """Count one request; `error` is None for a success."""
        if error is None:
            counter = self._ok.get((transport, signal))
            if counter is None:
                counter = self._ok[transport, signal] = self.requests.labels(transport, signal, "ok")
            counter.inc()
            return
        self.requests.labels(transport, signal, "retry" if error.retry_s is not None else "rejected").inc()
        self.refusals.labels(type(error).__name__).inc()

    def text(self) -> bytes:
        """The body of `/metrics`."""
        return generate_latest(self.registry)
