"""One OTLP request on its way out: HTTP by our own `Endpoint`, gRPC by the SDK's exporters, or the `Direct` backends.

In: a `Batch` of SDK objects. Out: an `Outcome`; nothing is raised for trouble on the network.
Called by: `export.Sender`, in its own thread only, so a slow name server or a peer that never answers blocks nobody else.

Why not the SDK's HTTP exporter: its connection is shared with forked children, its time limit counts each socket operation, and
it logs every failure to the job's stderr.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from enum import Enum
from functools import cached_property
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from wafermonitor.instrumentation.config import DEFAULT_ENDPOINT, Config
from wafermonitor.instrumentation.endpoint import Endpoint, Target
from wafermonitor.instrumentation.guard import once
from wafermonitor.instrumentation.spool import Signal

_TWINS: Final = ({4317, 4318}, {14317, 14318})
"""Ports of one server: gRPC and HTTP of a Collector, and of the receiver."""
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class Outcome(Enum):
    """What became of a request. REJECTED: this request will never be taken, the endpoint is well."""

    DELIVERED = "delivered"
    RETRY = "retry"
    REJECTED = "rejected"


class Batch:
    """SDK objects of one signal on their way. `spilled`: it is in the spool, or being written to it."""

    def __init__(self, signal: Signal, items: Sequence[Any]) -> None:
        self.signal = signal
        self.items = items
        self.spilled = False

    @cached_property
    def message(self) -> Any:
        """The OTLP export request (protobuf). One item that cannot be encoded does not take the others with it."""
        try:
            return _encoded(self.signal, self.items)
        except Exception as error:  # noqa: BLE001 - the encoder raises whatever a strange value raises
            once(f"{self.signal} that cannot be encoded are dropped: {error}", key=f"encode {self.signal}")
        return _encoded(self.signal, [item for item in self.items if _can_be_encoded(self.signal, item)])


def _encoded(signal: Signal, items: Sequence[Any]) -> Any:
    """Metrics come one collection a batch."""
    if signal == "traces":
        return encode_spans(items)
    if signal == "logs":
        return encode_logs(items)
    return encode_metrics(items[0]) if items else ExportMetricsServiceRequest()


def _can_be_encoded(signal: Signal, item: Any) -> bool:
    try:
        _encoded(signal, [item])
    except Exception:  # noqa: BLE001 - as above
        return False
    return True


class Transport(Protocol):
    """How a batch leaves this process."""

    def send(self, batch: Batch) -> Outcome:
        """Send and wait for the answer, `Config.timeout_s` at most for each step of the exchange."""

    def close(self, wait_s: float) -> None:
        """The process ends. Whoever sends at this moment is not waited for."""


def transport_for(config: Config) -> Transport | None:
    """What the environment asks for; None when nothing is to be sent (modes `file` and `off`)."""
    if config.mode in {"file", "off"}:
        return None
    if config.writes_itself:
        return DirectTransport(config)
    if os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "").startswith("grpc"):
        return GrpcTransport(config)
    return HttpTransport(config)


class _Posted:
    """Protobuf bodies to a target."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def send(self, batch: Batch) -> Outcome:
        """POST it."""
        body = batch.message.SerializeToString()
        answer = self._target.post(batch.signal, body, content_type="application/x-protobuf")
        if answer.outcome == "accepted":
            return Outcome.DELIVERED
        return Outcome.REJECTED if answer.outcome == "rejected" else Outcome.RETRY

    def close(self, wait_s: float) -> None:
        """Nothing that the end of the process does not do."""


class HttpTransport(_Posted):
    """OTLP/HTTP over one kept connection for each address."""

    def __init__(self, config: Config) -> None:
        super().__init__(Endpoint.of(config))


class DirectTransport(_Posted):
    """The direct backends. Their client libraries say goodbye at the end, where there is time for it."""

    def __init__(self, config: Config) -> None:
        from wafermonitor.instrumentation.direct import Direct

        self._direct = Direct.of(config, os.environ)
        super().__init__(self._direct)

    def close(self, wait_s: float) -> None:
        """End the connections, or leave them when it takes too long."""
        self._direct.close(wait_s)


class GrpcTransport:
    """OTLP/gRPC by the SDK's exporters, which the extra `grpc` brings. They read OTEL_EXPORTER_OTLP_* themselves."""

    def __init__(self, config: Config) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
            from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        except ImportError:
            raise ValueError(
                'OTEL_EXPORTER_OTLP_PROTOCOL=grpc needs the extra "grpc": pip install "wafermonitor[grpc]"'
            ) from None
        common: dict[str, Any] = {"timeout": config.timeout_s}
        if config.endpoint != DEFAULT_ENDPOINT:
            common["endpoint"] = config.endpoint
        if config.token:
            common["headers"] = {"authorization": f"Bearer {config.token}"}
        self._exporters: dict[Signal, Any] = {
            "traces": OTLPSpanExporter(**common),
            "logs": OTLPLogExporter(**common),
            "metrics": OTLPMetricExporter(**common),
        }

    def send(self, batch: Batch) -> Outcome:
        """Export by the SDK. It does not say why it failed, so every failure is worth another try."""
        exporter = self._exporters[batch.signal]
        result = exporter.export(batch.items[0] if batch.signal == "metrics" else batch.items)
        return Outcome.DELIVERED if result.name == "SUCCESS" else Outcome.RETRY

    def close(self, wait_s: float) -> None:
        """Nothing that the end of the process does not do."""


def same_server(one: str, other: str) -> bool:
    """Whether two OTLP endpoints (URL or host:port) lead to one server, so that telemetry would arrive there twice."""
    host_a, port_a = _address(one)
    host_b, port_b = _address(other)
    return host_a == host_b and (port_a == port_b or {port_a, port_b} in _TWINS)


def _address(endpoint: str) -> tuple[str, int]:
    parts = urlsplit(endpoint if "//" in endpoint else f"//{endpoint}")
    host = (parts.hostname or "localhost").lower()
    return "localhost" if host in _LOOPBACK else host, parts.port or (443 if parts.scheme == "https" else 80)
