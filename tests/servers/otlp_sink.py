"""An OTLP/HTTP endpoint that keeps what it is sent: protobuf and JSON, gzip too. It can be told to refuse or to stay silent."""

from __future__ import annotations

import gzip
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

_REQUESTS = {
    "/v1/traces": ExportTraceServiceRequest,
    "/v1/logs": ExportLogsServiceRequest,
    "/v1/metrics": ExportMetricsServiceRequest,
}


@dataclass
class Item:
    """A span, log record or metric as it came, with attributes as plain values."""

    resource: dict[str, Any]
    resource_keys: list[str]
    scope: str
    name: str
    attributes: dict[str, Any]
    trace_id: str = ""
    span_id: str = ""
    parent_span_id: str = ""
    raw: dict[str, Any] = field(default_factory=dict)


class Server:
    """A running sink. `spans`, `logs` and `metrics` are in order of arrival."""

    def __init__(self, port: int = 0) -> None:
        self.spans: list[Item] = []
        self.logs: list[Item] = []
        self.metrics: list[Item] = []
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.status = 200
        self.silent = threading.Event()
        """Set: requests are read and never answered."""
        self._changed = threading.Condition()
        self._release = threading.Event()
        sink = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                sink._take(self)

            def log_message(self, *_args: Any) -> None:
                pass

        class Http(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *_args: Any) -> None:
                """A client that was killed is part of the test."""

        self._http = Http(("127.0.0.1", port), Handler)
        self.port = self._http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop listening and let every held connection go."""
        self._release.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def events(self, name: str | None = None, *, job: str | None = None) -> list[Item]:
        """Lifecycle events, perhaps only those of one name or of one job."""
        return [
            item
            for item in list(self.logs)
            if item.name and (name is None or item.name == name) and (job is None or item.attributes["wafer.job.name"] == job)
        ]

    def runs(self, job: str | None = None) -> list[Item]:
        """Spans that are runs."""
        found = [item for item in list(self.spans) if "wafer.job.name" in item.attributes]
        return [item for item in found if job is None or item.name == job]

    def wait_for(self, condition: Any, timeout_s: float = 10.0) -> None:
        """Until `condition(self)` holds; AssertionError with what has arrived when it does not in time."""
        with self._changed:
            held = self._changed.wait_for(lambda: condition(self), timeout_s)
        seen = [(item.name, item.attributes.get("wafer.job.name")) for item in [*self.logs, *self.spans]]
        assert held, f"not within {timeout_s} s; arrived: {seen}"

    def _take(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("content-length", 0)))
        if self.silent.is_set():
            self._release.wait(30)
            handler.close_connection = True
            return
        if self.status == 200:
            if handler.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            self._keep(handler.path, handler.headers.get("content-type", ""), body, dict(handler.headers.items()))
        handler.send_response(self.status)
        handler.send_header("content-type", "application/x-protobuf")
        handler.send_header("content-length", "0")
        handler.end_headers()

    def _keep(self, path: str, kind: str, body: bytes, headers: dict[str, str]) -> None:
        if kind.startswith("application/json"):
            request = json.loads(body)
        else:
            message = _REQUESTS[path]()
            message.ParseFromString(body)
            request = MessageToDict(message)
        with self._changed:
            self.bodies.append(body)
            self.headers.append({key.lower(): value for key, value in headers.items()})
            self._sort(request, as_json=kind.startswith("application/json"))
            self._changed.notify_all()

    def _sort(self, request: dict[str, Any], *, as_json: bool) -> None:
        for signal, scopes, leaf, into in (
            ("resourceSpans", "scopeSpans", "spans", self.spans),
            ("resourceLogs", "scopeLogs", "logRecords", self.logs),
            ("resourceMetrics", "scopeMetrics", "metrics", self.metrics),
        ):
            for outer in request.get(signal, ()):
                resource = _plain(outer.get("resource", {}).get("attributes", ()))
                for inner in outer.get(scopes, ()):
                    for raw in inner.get(leaf, ()):
                        into.append(
                            Item(
                                resource=resource,
                                resource_keys=list(resource),
                                scope=inner.get("scope", {}).get("name", ""),
                                name=raw.get("eventName", "") if leaf == "logRecords" else raw.get("name", ""),
                                attributes=_plain(raw.get("attributes", ())),
                                trace_id=_hex(raw.get("traceId", ""), as_json=as_json),
                                span_id=_hex(raw.get("spanId", ""), as_json=as_json),
                                parent_span_id=_hex(raw.get("parentSpanId", ""), as_json=as_json),
                                raw=raw,
                            )
                        )


def start(port: int = 0) -> Server:
    """A sink on a free port of the loopback, or on `port`."""
    return Server(port)


def _plain(attributes: Any) -> dict[str, Any]:
    return {pair["key"]: _value(pair.get("value", {})) for pair in attributes}


def _value(value: dict[str, Any]) -> Any:
    for kind, found in value.items():
        if kind == "arrayValue":
            return [_value(item) for item in found.get("values", ())]
        return int(found) if kind == "intValue" else found
    return None


def _hex(text: str, *, as_json: bool) -> str:
    if as_json or not text:
        return text
    import base64

    return base64.b64decode(text).hex()
