"""A stand-in for Grafana Loki in tests: no package of the real one can be had. It keeps lines in memory, also while it is away.

    server = loki.start()
    server.url                                   # "http://127.0.0.1:PORT"
    server.kill(); server.restart()              # nobody answers; the same port and lines
    server.stop()

It has what we use: `/otlp/v1/logs` (protobuf), `/loki/api/v1/push` (JSON), `/loki/api/v1/query_range` (label matchers `=`, then
`|= "text"` and `| name="value"` in any order; start, end, limit, direction), `/ready`, tenants. As Loki 3 does it, labels and
structured metadata have `_` for `.`, the latter stand among the labels of an answer, of two equal lines one is kept, and what
is older than a week is refused with 400 while the rest of the request is taken.
"""

from __future__ import annotations

import gzip
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

LABELS = ("service.name", "service.namespace", "deployment.environment.name", "cloud.region")
"""Of the resource attributes that Loki makes labels of; the rest is structured metadata."""
WEEK_NS = 7 * 86_400 * 1_000_000_000
LIMIT = 100
_SELECTOR = re.compile(r"^\s*\{([^}]*)\}(.*)$", re.DOTALL)
_MATCHER = re.compile(r'([A-Za-z_]\w*)\s*=\s*("(?:[^"\\]|\\.)*")')
_STAGE = re.compile(r'\s*(?:\|=\s*("(?:[^"\\]|\\.)*")|\|\s*([A-Za-z_]\w*)\s*=\s*("(?:[^"\\]|\\.)*"))')


class Line(NamedTuple):
    """One line: `labels` make its stream, `metadata` is structured metadata."""

    labels: tuple[tuple[str, str], ...]
    time_ns: int
    text: str
    metadata: tuple[tuple[str, str], ...]


def missing() -> str | None:
    """It can run everywhere."""
    return None


def start() -> Server:
    """One that answers."""
    server = Server()
    server.restart()
    return server


class Server:
    """`lines` is what it keeps, by tenant. `posts` counts requests; `status` other than 0, with
    `text`, is its answer to each of them.
    """

    def __init__(self) -> None:
        self.port = 0
        self.status = 0
        self.text = "as the test wants it"
        self.posts = 0
        self.lines: dict[str, dict[Line, None]] = {}
        self._lock = threading.Lock()
        self._http: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def restart(self) -> None:
        """Listen, for the first time or again on the same port."""
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                body = gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body
                self._answer(*server._take(urlsplit(self.path).path, self.headers.get("X-Scope-OrgID", "fake"), body))

            def do_GET(self) -> None:
                asked = urlsplit(self.path)
                query = {name: values[-1] for name, values in parse_qs(asked.query).items()}
                self._answer(*server._tell(asked.path, self.headers.get("X-Scope-OrgID", "fake"), query))

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_args: object) -> None:
                pass

        class Http(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_args: Any) -> None:
                """A client that was killed is part of the test."""

        self._http = Http(("127.0.0.1", self.port), Handler)
        self.port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def kill(self) -> None:
        """Nobody answers any more."""
        assert self._http is not None
        self._http.shutdown()
        self._http.server_close()
        self._http = None

    def stop(self) -> None:
        """End it."""
        if self._http is not None:
            self.kill()

    def _take(self, path: str, tenant: str, body: bytes) -> tuple[int, bytes]:
        self.posts += 1
        if self.status:
            return self.status, self.text.encode()
        readers = {"/otlp/v1/logs": _from_otlp, "/loki/api/v1/push": _from_push}
        if path not in readers:
            return 404, b"404 page not found"
        try:
            came = readers[path](body)
        except ValueError as error:
            return 400, str(error).encode()
        oldest_ns = time.time_ns() - WEEK_NS
        with self._lock:
            self.lines.setdefault(tenant, {}).update({line: None for line in came if line.time_ns >= oldest_ns})
        old = sum(line.time_ns < oldest_ns for line in came)
        return (400, f"{old} entries are too far behind".encode()) if old else (204, b"")

    def _tell(self, path: str, tenant: str, query: dict[str, str]) -> tuple[int, bytes]:
        if path == "/ready":
            return 200, b"ready"
        if path != "/loki/api/v1/query_range":
            return 404, b"404 page not found"
        try:
            with self._lock:
                found = chosen(list(self.lines.get(tenant, ())), query)
        except ValueError as error:
            return 400, f"parse error: {error}".encode()
        streams: dict[tuple[tuple[str, str], ...], list[list[str]]] = {}
        for line in found:
            streams.setdefault(tuple(sorted({**dict(line.labels), **dict(line.metadata)}.items())), []).append(
                [str(line.time_ns), line.text]
            )
        result = [{"stream": dict(labels), "values": values} for labels, values in streams.items()]
        return 200, json.dumps({"status": "success", "data": {"resultType": "streams", "result": result}}).encode()


def chosen(lines: list[Line], query: dict[str, str]) -> list[Line]:
    """What `query_range` finds, the newest first unless `direction` says otherwise. ValueError for LogQL that is not ours."""
    selector = _SELECTOR.match(query.get("query", ""))
    if selector is None or not _MATCHER.search(selector[1]):
        raise ValueError("queries require at least one matcher")
    wanted = {name: json.loads(value) for name, value in _MATCHER.findall(selector[1])}
    rest, stages = selector[2].strip(), []
    while rest:
        stage = _STAGE.match(rest)
        if stage is None:
            raise ValueError(f"unexpected {rest!r}")
        stages.append(stage)
        rest = rest[stage.end() :].strip()
    begin_ns = int(query.get("start", time.time_ns() - 3_600 * 1_000_000_000))
    end_ns = int(query.get("end", time.time_ns()))
    found = [
        line
        for line in lines
        if begin_ns <= line.time_ns < end_ns and wanted.items() <= dict(line.labels).items() and _passes(line, stages)
    ]
    found.sort(key=lambda line: line.time_ns, reverse=query.get("direction") != "forward")
    return found[: int(query.get("limit", LIMIT))]


def _passes(line: Line, stages: list[re.Match[str]]) -> bool:
    known = dict(line.labels) | dict(line.metadata)
    return all(
        json.loads(text) in line.text if text else known.get(name) == json.loads(value)
        for text, name, value in (stage.groups() for stage in stages)
    )


def _from_otlp(body: bytes) -> list[Line]:
    request = ExportLogsServiceRequest.FromString(body)
    found = []
    for outer in request.resource_logs:
        resource = _texts(outer.resource.attributes)
        labels = {_name(name): text for name, text in resource.items() if name in LABELS} or {"service_name": "unknown_service"}
        for inner in outer.scope_logs:
            scope = {"scope_name": inner.scope.name, "scope_version": inner.scope.version}
            for record in inner.log_records:
                own = {
                    "trace_id": record.trace_id.hex(),
                    "span_id": record.span_id.hex(),
                    "severity_number": str(record.severity_number),
                    "severity_text": record.severity_text,
                    "observed_timestamp": str(record.observed_time_unix_nano),
                }
                rest = {name: text for name, text in resource.items() if name not in LABELS}
                metadata = {
                    _name(name): text for name, text in (scope | rest | own | _texts(record.attributes)).items() if text
                }
                time_ns = record.time_unix_nano or record.observed_time_unix_nano
                found.append(_line(labels, time_ns, _text(record.body), metadata))
    return found


def _from_push(body: bytes) -> list[Line]:
    return [
        _line(stream["stream"], int(value[0]), value[1], value[2] if len(value) > 2 else {})
        for stream in json.loads(body)["streams"]
        for value in stream["values"]
    ]


def _line(labels: dict[str, str], time_ns: int, text: str, metadata: dict[str, str]) -> Line:
    return Line(tuple(sorted(labels.items())), time_ns, text, tuple(sorted(metadata.items())))


def _texts(pairs: Any) -> dict[str, str]:
    return {pair.key: _text(pair.value) for pair in pairs}


def _text(value: Any) -> str:
    kind = value.WhichOneof("value")
    if kind == "string_value":
        return str(value.string_value)
    if kind == "array_value":
        return json.dumps([_text(one) for one in value.array_value.values])
    if kind == "bool_value":
        return str(value.bool_value).lower()
    return "" if kind is None else str(getattr(value, kind))


def _name(name: str) -> str:
    return re.sub(r"\W", "_", name)
