"""An HTTP endpoint that keeps the requests it is sent, as webhooks and Alertmanagers do. It can refuse or stay silent."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Request:
    """One POST as it came."""

    path: str
    headers: dict[str, str]
    body: bytes
    status: int
    """What it was answered."""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Server:
    """`status` is what it answers, `headers` what goes with that; while `silent` is set it answers nothing."""

    port: int = 0
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    silent: threading.Event = field(default_factory=threading.Event)
    slow: threading.Event | None = None
    """What an answer waits for."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def start(port: int = 0, context: ssl.SSLContext | None = None) -> Iterator[Server]:
    """A sink on a free loopback port, or on `port`; with TLS when it has a `context`."""
    sink = Server()
    release = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            sink.requests.append(Request(self.path, headers, body, sink.status))
            if sink.silent.is_set():
                release.wait(30)
                self.close_connection = True
                return
            if sink.slow is not None:
                sink.slow.wait(30)
            self.send_response(sink.status)
            for name, value in sink.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", "0")
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *_args: object) -> None:
            pass

    class Http(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_args: Any) -> None:
            """A client that gave up is part of the test."""

    with Http(("127.0.0.1", port), Handler) as server:
        sink.port = server.server_address[1]
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield sink
        finally:
            release.set()
            server.shutdown()
            thread.join()
