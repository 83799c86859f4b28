"""One OTLP request on the wire: HTTP with protobuf by the standard library, or gRPC by the SDK's exporters.

In: a `Batch` of SDK objects. Out: an `Outcome`; nothing is raised and nothing is logged here.
Called by: `export.Sender`, in its own thread only, so a slow name server or a peer that never answers blocks nobody else.

Why not the SDK's HTTP exporter: its connection is shared with forked children, its time limit counts each socket operation, and
it logs every failure to the job's stderr. OTEL_EXPORTER_OTLP_* mean here what they mean there.
Source: OTLP specification 1.x, "OTLP/HTTP Response" and "Retryable Response Codes".
"""

from __future__ import annotations

import gzip
import http.client
import os
import socket
import ssl
from collections.abc import Sequence
from enum import Enum
from functools import cached_property
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.util.re import parse_env_headers

from wafermonitor.instrumentation.config import DEFAULT_ENDPOINT, Config
from wafermonitor.instrumentation.spool import Signal

_TWINS: Final = ({4317, 4318}, {14317, 14318})
"""Ports of one server: gRPC and HTTP of a Collector, and of the receiver."""
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_REJECTED: Final = frozenset({400, 413, 415, 422})
"""Will never be taken, so the spool would keep it for ever. Every other failure is worth another try."""

_FAILURES: Final = (OSError, http.client.HTTPException, ValueError)
"""ValueError: a host name or a header that cannot be written down."""


class Outcome(Enum):
    """What became of a request."""

    DELIVERED = "delivered"
    RETRY = "retry"
    REJECTED = "rejected"


class Batch:
    """SDK objects of one signal on their way. `spilled` is guarded by the sender's lock."""

    def __init__(self, signal: Signal, items: Sequence[Any]) -> None:
        self.signal = signal
        self.items = items
        self.spilled = False

    @cached_property
    def message(self) -> Any:
        """The OTLP export request (protobuf). Metrics come one collection a batch."""
        if self.signal == "traces":
            return encode_spans(self.items)
        if self.signal == "logs":
            return encode_logs(self.items)
        return encode_metrics(self.items[0])


class Transport(Protocol):
    """How a batch leaves this host's process."""

    def send(self, batch: Batch) -> Outcome:
        """Send and wait for the answer, `Config.timeout_s` at most for each step of the exchange."""

    def close(self) -> None:
        """Let go of the connection."""


def endpoint_of(config: Config, signal: str) -> str:
    """The URL one signal is posted to."""
    return _env("ENDPOINT", signal, general=False) or f"{config.endpoint.rstrip('/')}/v1/{signal}"


def transport_for(config: Config) -> Transport | None:
    """What the environment asks for; None when nothing is to be sent (modes `file` and `off`)."""
    if config.mode in {"file", "off"}:
        return None
    if os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "").startswith("grpc"):
        return GrpcTransport(config)
    return HttpTransport(config)


def same_server(one: str, other: str) -> bool:
    """Whether two OTLP endpoints (URL or host:port) lead to one server, so that telemetry would arrive there twice."""
    host_a, port_a = _address(one)
    host_b, port_b = _address(other)
    return host_a == host_b and (port_a == port_b or {port_a, port_b} in _TWINS)


def _address(endpoint: str) -> tuple[str, int]:
    parts = urlsplit(endpoint if "//" in endpoint else f"//{endpoint}")
    host = (parts.hostname or "localhost").lower()
    return "localhost" if host in _LOOPBACK else host, parts.port or (443 if parts.scheme == "https" else 80)


class HttpTransport:
    """OTLP/HTTP with protobuf bodies over one kept connection for each address."""

    def __init__(self, config: Config) -> None:
        self._timeout_s = config.timeout_s
        self._connections: dict[tuple[str, str], http.client.HTTPConnection] = {}
        self._targets = {signal: _Target(signal, config) for signal in ("traces", "logs", "metrics")}

    def send(self, batch: Batch) -> Outcome:
        """POST it; a kept connection that the peer has closed meanwhile gets a second try on a new one."""
        target = self._targets[batch.signal]
        body = batch.message.SerializeToString()
        if target.gzip:
            body = gzip.compress(body, 1)
        address = (target.scheme, target.netloc)
        kept = address in self._connections
        try:
            return self._post(target, address, body)
        except _FAILURES as error:
            self._drop(address)
            if not kept or isinstance(error, TimeoutError):
                return Outcome.RETRY
        try:
            return self._post(target, address, body)
        except _FAILURES:
            self._drop(address)
            return Outcome.RETRY

    def close(self) -> None:
        """Close every kept connection."""
        for address in list(self._connections):
            self._drop(address)

    def _post(self, target: _Target, address: tuple[str, str], body: bytes) -> Outcome:
        connection = self._connections.get(address)
        if connection is None:
            connection = self._connections[address] = target.connect(self._timeout_s)
        connection.request("POST", target.path, body, target.headers)
        response = connection.getresponse()
        response.read()
        if response.will_close:
            self._drop(address)
        if 200 <= response.status < 300:  # noqa: PLR2004 - HTTP's own numbers
            return Outcome.DELIVERED
        return Outcome.REJECTED if response.status in _REJECTED else Outcome.RETRY

    def _drop(self, address: tuple[str, str]) -> None:
        connection = self._connections.pop(address, None)
        if connection is not None:
            connection.close()


class _Target:
    """Where one signal goes: address, path, headers, compression, certificates."""

    def __init__(self, signal: str, config: Config) -> None:
        parts = urlsplit(endpoint_of(config, signal))
        self.scheme = parts.scheme
        self.netloc = parts.netloc
        self.path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self.gzip = _env("COMPRESSION", signal) == "gzip"
        self.headers = {"content-type": "application/x-protobuf", "user-agent": "wafermonitor"}
        if self.gzip:
            self.headers["content-encoding"] = "gzip"
        if config.token:
            self.headers["authorization"] = f"Bearer {config.token}"
        self.headers |= parse_env_headers(_env("HEADERS", signal), liberal=True)
        self._files = [_env(name, signal) or None for name in ("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY")]

    def connect(self, timeout_s: float) -> http.client.HTTPConnection:
        """A connection, not yet opened. OSError when a certificate file cannot be read."""
        if self.scheme != "https":
            connection = http.client.HTTPConnection(self.netloc, timeout=timeout_s)
        else:
            authority, certificate, key = self._files
            context = ssl.create_default_context(cafile=authority)
            if certificate:
                context.load_cert_chain(certificate, key)
            connection = http.client.HTTPSConnection(self.netloc, timeout=timeout_s, context=context)
        # Headers and body are two writes: without this the second waits for a delayed acknowledgement.
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection


def _env(name: str, signal: str, *, general: bool = True) -> str:
    """An OTEL_EXPORTER_OTLP_* variable: the signal's own, else the general one."""
    own = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_{name}", "").strip()
    return own or (os.environ.get(f"OTEL_EXPORTER_OTLP_{name}", "").strip() if general else "")


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
        self._exporters: dict[str, Any] = {
            "traces": OTLPSpanExporter(**common),
            "logs": OTLPLogExporter(**common),
            "metrics": OTLPMetricExporter(**common),
        }

    def send(self, batch: Batch) -> Outcome:
        """Export by the SDK. It does not say why it failed, so every failure is worth another try."""
        exporter = self._exporters[batch.signal]
        result = exporter.export(batch.items[0] if batch.signal == "metrics" else batch.items)
        return Outcome.DELIVERED if result.name == "SUCCESS" else Outcome.RETRY

    def close(self) -> None:
        """Shut the exporters down."""
        for exporter in self._exporters.values():
            exporter.shutdown()
