"""Three ways to send OTLP, and what came back, told apart by nothing but the answer.

In: bytes. Out: an `Answer`, also when the server says nothing at all. Called by: the cases.
"""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import grpc
from google.protobuf import json_format, unknown_fields
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from . import rules

TIMEOUT_S = 30.0
MEDIA = {rules.PROTOBUF: "application/x-protobuf", rules.JSON: "application/json", rules.HTTP: "application/x-protobuf"}
RESPONSES = {
    "traces": (trace_service_pb2.ExportTraceServiceResponse, "rejected_spans"),
    "logs": (logs_service_pb2.ExportLogsServiceResponse, "rejected_log_records"),
    "metrics": (metrics_service_pb2.ExportMetricsServiceResponse, "rejected_data_points"),
}
METHODS = {
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
}
CODES = {code.value[0]: code.name for code in grpc.StatusCode}

Headers = Sequence[tuple[str, str]]


class Endpoint(NamedTuple):
    """Where the server listens, and what its operator set."""

    http: str | None = None
    grpc: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    limit_bytes: int = 64 << 20
    grpc_limit_bytes: int | None = None
    idle_s: float = 15.0
    signals: tuple[str, ...] = rules.SIGNALS


@dataclass(frozen=True)
class Answer:
    """What the server said. `code` is gRPC's number, `http` the status; neither when it said nothing."""

    code: int | None = None
    http: int | None = None
    media: str = ""
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    response: Message | None = None
    rejected: int = 0
    status: status_pb2.Status | None = None
    unreadable: str = ""
    elapsed_s: float = 0.0

    @property
    def ok(self) -> bool:
        """The request was taken, all or in part."""
        return self.code == 0 or self.http == http.client.OK

    @property
    def silent(self) -> bool:
        """The connection ended without an answer."""
        return self.code is None and self.http is None

    @property
    def message(self) -> str:
        """The text that a person would read."""
        return self.status.message if self.status is not None else self.body.decode("utf-8", "replace")

    @property
    def retry_s(self) -> float | None:
        """The delay of RetryInfo."""
        for detail in self.status.details if self.status is not None else ():
            info = error_details_pb2.RetryInfo()
            if detail.Unpack(info):
                return info.retry_delay.ToMilliseconds() / 1000
        return None

    def __str__(self) -> str:
        if self.silent:
            return f"no answer ({self.unreadable})"
        told = f"gRPC {CODES.get(self.code or 0, self.code)}" if self.http is None else f"HTTP {self.http}"
        rejected = f", {self.rejected} rejected" if self.rejected else ""
        return f"{told}{rejected}{f' ({self.unreadable})' if self.unreadable else ''}"


class Client(ABC):
    """One transport to one endpoint."""

    def __init__(self, transport: str, endpoint: Endpoint) -> None:
        self.transport = transport
        self.endpoint = endpoint

    @property
    def is_json(self) -> bool:
        """Whether bodies are JSON."""
        return self.transport == rules.JSON

    def encode(self, request: Message) -> bytes:
        """The request in the client's encoding."""
        return json.dumps(to_json(request)).encode() if self.is_json else request.SerializeToString()

    @abstractmethod
    def send(self, signal: str, body: bytes, *, compressed: bool = False) -> Answer:
        """One export."""

    def export(self, signal: str, request: Message) -> Answer:
        """One export of a message."""
        return self.send(signal, self.encode(request))


class Grpc(Client):
    """OTLP/gRPC with raw bytes, so that they may be wrong."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(rules.GRPC, endpoint)
        assert endpoint.grpc is not None
        # Retries of the library's own would hide a refusal.
        options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1), ("grpc.enable_retries", 0)]
        self._channel = grpc.insecure_channel(endpoint.grpc, options=options)

    def send(self, signal: str, body: bytes, *, compressed: bool = False) -> Answer:
        return self.call(METHODS[signal], body, signal, compressed=compressed)

    def call(self, method: str, body: bytes, signal: str = "traces", *, compressed: bool = False) -> Answer:
        """One call of any method."""
        started = time.monotonic()
        try:
            told = self._channel.unary_unary(method)(
                body,
                timeout=TIMEOUT_S,
                metadata=[(name.lower(), value) for name, value in self.endpoint.headers],
                compression=grpc.Compression.Gzip if compressed else None,
            )
        except grpc.RpcError as error:
            return _grpc_refusal(error, time.monotonic() - started)
        response, rejected, unreadable = _response(signal, told, "")
        spent_s = time.monotonic() - started
        return Answer(code=0, body=told, response=response, rejected=rejected, unreadable=unreadable, elapsed_s=spent_s)

    def close(self) -> None:
        """Hang up."""
        self._channel.close()


class Http(Client):
    """OTLP/HTTP; each exchange on a connection of its own unless one is given."""

    def __init__(self, transport: str, endpoint: Endpoint) -> None:
        super().__init__(transport, endpoint)
        assert endpoint.http is not None
        self.media = MEDIA[transport]
        self._url = urlsplit(endpoint.http)

    def send(self, signal: str, body: bytes, *, compressed: bool = False) -> Answer:
        if compressed:
            return self.post(signal, gzip.compress(body, 1), [("content-encoding", "gzip")])
        return self.post(signal, body)

    def post(self, signal: str, body: bytes | Iterable[bytes], headers: Headers = (), **more: Any) -> Answer:
        """POST with the client's content type and `headers`; pieces are sent chunked."""
        return self.exchange("POST", path(signal), body, [("content-type", self.media), *headers], **more)

    def exchange(
        self,
        method: str,
        target: str,
        body: bytes | Iterable[bytes] = b"",
        headers: Headers = (),
        *,
        connection: http.client.HTTPConnection | None = None,
    ) -> Answer:
        """One request with these headers and no others but Host and the body's length."""
        line = connection or self.connect()
        started = time.monotonic()
        try:
            self._write(line, method, target, body, headers)
            answer = line.getresponse()
            told = answer.read()
        except (OSError, http.client.HTTPException) as error:
            return Answer(unreadable=type(error).__name__, elapsed_s=time.monotonic() - started)
        finally:
            if connection is None:
                line.close()
        return _http_answer(target, answer, told, time.monotonic() - started)

    def connect(self) -> http.client.HTTPConnection:
        """A new connection."""
        kind = http.client.HTTPSConnection if self._url.scheme == "https" else http.client.HTTPConnection
        return kind(self._url.hostname or "", self._url.port, timeout=TIMEOUT_S)

    def _write(
        self, line: http.client.HTTPConnection, method: str, target: str, body: bytes | Iterable[bytes], headers: Headers
    ) -> None:
        line.putrequest(method, self._url.path.rstrip("/") + target, skip_accept_encoding=True)
        for name, value in (*self.endpoint.headers, *headers):
            line.putheader(name, value)
        pieces = None if isinstance(body, bytes) else body
        if pieces is None:
            line.putheader("content-length", str(len(body)))
        else:
            line.putheader("transfer-encoding", "chunked")
        try:
            line.endheaders(body if pieces is None else pieces, encode_chunked=pieces is not None)
        except (BrokenPipeError, ConnectionResetError):
            return  # the server may have answered before it read everything

    def raw(self, data: bytes, *, timeout_s: float = 10.0, finish: bool = False, one: bool = True) -> bytes:
        """Send bytes that need not be HTTP; `one` response, or what is said until the server hangs up or is silent."""
        told = b""
        with self.dial(timeout_s) as line:
            try:
                line.sendall(data)
                if finish:
                    line.shutdown(socket.SHUT_WR)
                while piece := line.recv(65536):
                    told += piece
                    if one and complete(told):
                        break
            except TimeoutError:
                pass
            except OSError:
                return told
        return told

    def dial(self, timeout_s: float = 10.0) -> socket.socket:
        """A bare TCP connection."""
        return socket.create_connection((self._url.hostname or "", self._url.port or 80), timeout_s)

    def head(self, signal: str, *lines: str) -> bytes:
        """The head of a POST as bytes, with `lines` for headers beside Host, content type and those of the operator."""
        own = [f"{name}: {value}" for name, value in self.endpoint.headers]
        first = f"POST {self._url.path.rstrip('/')}{path(signal)} HTTP/1.1"
        return "\r\n".join([first, f"Host: {self._url.netloc}", *own, *lines, "", ""]).encode("latin-1")


def path(signal: str) -> str:
    """The default URL path."""
    return f"/v1/{signal}"


def complete(told: bytes) -> bool:
    """Whether bytes are a whole HTTP/1.1 response with a length."""
    head, found, body = told.partition(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return bool(found) and len(body) >= int(line.partition(b":")[2])
    return False


def http_status(told: bytes) -> int | None:
    """The status of a raw response."""
    words = told.split(b" ", 2)
    return int(words[1]) if len(words) > 1 and words[0].startswith(b"HTTP/1.") and words[1].isdigit() else None


def to_json(request: Message) -> dict[str, Any]:
    """OTLP's own JSON: as protobuf's mapping, but ids in hex and enums as numbers."""
    shown = json_format.MessageToDict(request, use_integers_for_enums=True)
    _hex_ids(shown)
    return shown


def _hex_ids(node: Any) -> None:
    if isinstance(node, list):
        for item in node:
            _hex_ids(item)
    elif isinstance(node, dict):
        for name, value in node.items():
            if name in ("traceId", "spanId", "parentSpanId"):
                node[name] = base64.b64decode(value).hex()
            else:
                _hex_ids(value)


def _grpc_refusal(error: Any, elapsed_s: float) -> Answer:
    code = error.code().value[0]
    trailing = dict(error.trailing_metadata() or ())
    status = status_pb2.Status(code=code, message=error.details() or "")
    unreadable = ""
    if "grpc-status-details-bin" in trailing:
        try:
            status = status_pb2.Status.FromString(trailing["grpc-status-details-bin"])
        except DecodeError:
            unreadable = "grpc-status-details-bin is no google.rpc.Status"
    return Answer(code=code, status=status, body=(error.details() or "").encode(), unreadable=unreadable, elapsed_s=elapsed_s)


def _http_answer(target: str, answer: http.client.HTTPResponse, told: bytes, elapsed_s: float) -> Answer:
    media = (answer.getheader("content-type") or "").partition(";")[0].strip().lower()
    headers = {name.lower(): value for name, value in answer.getheaders()}
    plain = gzip.decompress(told) if headers.get("content-encoding", "").lower() == "gzip" and told else told
    shown = Answer(http=answer.status, media=media, body=plain, headers=headers, elapsed_s=elapsed_s)
    signal = target.partition("?")[0].removeprefix("/v1/")
    if answer.status == http.client.OK and signal in RESPONSES:
        response, rejected, unreadable = _response(signal, plain, media)
        return _with(shown, response=response, rejected=rejected, unreadable=unreadable)
    status, unreadable = _status(plain, media)
    return _with(shown, status=status, unreadable=unreadable)


def _with(answer: Answer, **more: Any) -> Answer:
    return Answer(**{**answer.__dict__, **more})


def _response(signal: str, told: bytes, media: str) -> tuple[Message | None, int, str]:
    kind, rejected = RESPONSES[signal]
    try:
        message = json_format.Parse(told, kind()) if media == MEDIA[rules.JSON] else kind.FromString(told)
    except (DecodeError, json_format.ParseError, UnicodeDecodeError):
        return None, 0, f"the body is no {kind.DESCRIPTOR.name}"
    return message, getattr(message.partial_success, rejected), ""


def _status(told: bytes, media: str) -> tuple[status_pb2.Status | None, str]:
    try:
        if media == MEDIA[rules.JSON]:
            status = json_format.Parse(told, status_pb2.Status())
        elif media == MEDIA[rules.PROTOBUF]:
            status = status_pb2.Status.FromString(told)
            if len(unknown_fields.UnknownFieldSet(status)):
                return None, "the body is no google.rpc.Status"
        else:
            return None, f"the body is {media or 'of no content type'}"
    except (DecodeError, json_format.ParseError, UnicodeDecodeError, AttributeError):
        return None, "the body is no google.rpc.Status"
    return (status, "") if told else (None, "the body is empty")
