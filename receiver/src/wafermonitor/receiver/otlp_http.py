"""OTLP/HTTP and the receiver's own pages, as a bare ASGI application.

In: POST /v1/traces, /v1/logs, /v1/metrics with protobuf or JSON, plain or gzip; the older routes (`legacy`); GET /healthz,
/readyz, /metrics. Out: export responses or `google.rpc.Status`, both in the request's content type; JSON on older routes.
Called by: `server` (uvicorn).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from prometheus_client import CONTENT_TYPE_LATEST

from wafermonitor.receiver import answers, legacy
from wafermonitor.receiver.admission import Budget, Hold, authorize, inflate, too_large
from wafermonitor.receiver.config import Config
from wafermonitor.receiver.errors import (
    MediaRejected,
    MethodRejected,
    ReceiverError,
    ReceiverUnavailable,
    RouteRejected,
    TooSlow,
)
from wafermonitor.receiver.pipeline import Pipeline
from wafermonitor.receiver.telemetry import Telemetry
from wafermonitor.receiver.transcode.protocol import Encoding, Request, Signal

LOG = logging.getLogger(__name__)
ROUTES = {f"/v1/{signal.value}": signal for signal in Signal}
ENCODINGS = {"application/x-protobuf": Encoding.PROTOBUF, "application/json": Encoding.JSON}
MEDIA = {encoding: media for media, encoding in ENCODINGS.items()} | {Encoding.EVENTS: "application/json"}
HTTP_OK = 200
HTTP_UNAVAILABLE = 503

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Ready = Callable[[], Awaitable[str | None]]


class _Reply(NamedTuple):
    status: int
    media: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


class SenderGone(Exception):  # noqa: N818 - nobody did anything wrong
    """The sender closed the connection before its request was complete: nobody is left to answer."""


class Application:
    """The ASGI application. `ready` says what keeps the receiver from being ready, or None."""

    def __init__(self, config: Config, budget: Budget, pipeline: Pipeline, telemetry: Telemetry, ready: Ready) -> None:
        self._limit = config.max_request_bytes
        self._receive_s = config.receive_s
        self._token = config.token.get_secret_value() if config.token else None
        self._budget = budget
        self._pipeline = pipeline
        self._telemetry = telemetry
        self._ready = ready
        self._routes = ROUTES | dict.fromkeys(legacy.PATHS, Signal.LOGS) if config.otlp else {}
        self._older = legacy.Routes(pipeline.submit)

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one request."""
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        path, method = scope["path"], scope["method"]
        try:
            reply = await self._page(method, path) or await self._export(method, path, headers, receive)
        except SenderGone:
            return
        await _write(send, reply, body=method != "HEAD")

    async def _page(self, method: str, path: str) -> _Reply | None:
        if method not in ("GET", "HEAD"):
            return None
        if path == "/healthz":
            return _Reply(HTTP_OK, "application/json", b'{"status":"ok"}')
        if path == "/readyz" or path in legacy.HEALTH_PATHS:
            return self._readiness(path, await self._ready())
        if path == "/metrics":
            return _Reply(HTTP_OK, CONTENT_TYPE_LATEST, self._telemetry.text())
        return None

    @staticmethod
    def _readiness(path: str, trouble: str | None) -> _Reply:
        status = HTTP_OK if trouble is None else HTTP_UNAVAILABLE
        if path in legacy.HEALTH_PATHS:
            return _Reply(status, "application/json", legacy.health(trouble))
        if trouble is None:
            return _Reply(status, "application/json", b'{"status":"ready"}')
        return _Reply(status, "application/json", b'{"status":"not ready","reason":"%s"}' % trouble.encode())

    async def _export(self, method: str, path: str, headers: Mapping[str, str], receive: Receive) -> _Reply:
        encoding = ENCODINGS.get(headers.get("content-type", "").partition(";")[0].strip().lower())
        signal = self._routes.get(path)
        older = signal is not None and path in legacy.PATHS
        if older:
            encoding = Encoding.EVENTS if encoding is Encoding.JSON else None
        incoming = _Incoming(receive, headers, self._limit)
        try:
            return await self._accept(method, signal, encoding, headers, incoming)
        except ReceiverError as error:
            refusal = error
        except SenderGone:
            raise
        except Exception:
            LOG.exception("an HTTP request failed in the receiver itself")
            refusal = ReceiverUnavailable("the receiver could not do it; try again")
        label = Encoding.EVENTS.value if older else signal.value if signal else "none"
        self._telemetry.answered("http", label, refusal)
        if not isinstance(refusal, TooSlow):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._receive_s):
                    await incoming.discard()
        return _refuse(refusal, Encoding.EVENTS if older else encoding or Encoding.JSON, keep=incoming.complete)

    async def _accept(
        self, method: str, signal: Signal | None, encoding: Encoding | None, headers: Mapping[str, str], incoming: _Incoming
    ) -> _Reply:
        if signal is None:
            raise RouteRejected(f"no such path; OTLP/HTTP is POST {', '.join(ROUTES)}")
        if method != "POST":
            raise MethodRejected("use POST")
        authorize(self._token, headers.get("authorization"))
        if encoding is None:
            raise MediaRejected(f"content-type must be {' or '.join(ENCODINGS)}")
        with self._budget.hold() as share:
            try:
                async with asyncio.timeout(self._receive_s):
                    sent = await incoming.read(share)
            except TimeoutError:
                raise TooSlow(f"the body did not arrive within {self._receive_s:g} s; try again") from None
            body = await inflate(sent, headers.get("content-encoding", "").strip().lower(), self._limit)
            if body is not sent:
                share.add(len(body))
                share.drop(len(sent))
            return await self._store(Request(signal, encoding, body, time.time_ns()))

    async def _store(self, request: Request) -> _Reply:
        if request.encoding is Encoding.EVENTS:
            done = await self._older.handle(request)
            self._telemetry.answered("http", request.encoding.value, done.error)
            if done.error is not None:
                return _refuse(done.error, request.encoding, keep=True, body=done.body)
            return _Reply(done.status, MEDIA[request.encoding], done.body)
        answer = await self._pipeline.submit(request)
        self._telemetry.answered("http", request.signal.value, None)
        return _Reply(HTTP_OK, MEDIA[request.encoding], answers.response(request.signal, answer, request.encoding))


class _Incoming:
    """A request's body while it arrives."""

    def __init__(self, receive: Receive, headers: Mapping[str, str], limit_bytes: int) -> None:
        announced = headers.get("content-length", "")
        self._receive = receive
        self._limit = limit_bytes
        self._announced = int(announced) if announced.isdecimal() else 0
        self._waits_for_us = "expect" in headers
        self._seen = 0
        self.complete = False

    async def read(self, share: Hold) -> bytes:
        """The whole body as sent, counted piece by piece: no wrong Content-Length makes more of it than there may be."""
        if self._announced > self._limit:
            raise too_large(self._limit)
        pieces: list[bytes] = []
        while not self.complete:
            piece = await self._piece()
            if self._seen > self._limit:
                raise too_large(self._limit)
            share.add(len(piece))
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def discard(self) -> None:
        """Read the rest of a refused body, within bounds: many clients look for an answer only after they sent everything."""
        if self._waits_for_us or self._announced > 2 * self._limit:
            return
        while not self.complete and self._seen <= 2 * self._limit:
            await self._piece()

    async def _piece(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise SenderGone
        self.complete = not message.get("more_body", False)
        piece: bytes = message.get("body", b"")
        self._seen += len(piece)
        return piece


def _refuse(error: ReceiverError, encoding: Encoding, *, keep: bool, body: bytes | None = None) -> _Reply:
    """`body` is what an older route says; None for what every route says."""
    headers: list[tuple[str, str]] = []
    after = answers.retry_after(error)
    if after is not None:
        headers.append(("retry-after", after))
    if isinstance(error, MethodRejected):
        headers.append(("allow", "POST"))
    if isinstance(error, MediaRejected):
        headers.append(("accept-encoding", "gzip, identity"))
    if error.http_status == 401:  # noqa: PLR2004 - RFC 9110 11.6.1 asks for the challenge with this status
        headers.append(("www-authenticate", "Bearer"))
    if not keep:
        # The body was not read to its end, so the next request could not be found in the stream.
        headers.append(("connection", "close"))
    if body is None:
        body = legacy.refusal_body(error) if encoding is Encoding.EVENTS else answers.status_body(error, encoding)
    return _Reply(error.http_status, MEDIA[encoding], body, tuple(headers))


async def _write(send: Send, reply: _Reply, *, body: bool) -> None:
    headers = (("content-type", reply.media), ("content-length", str(len(reply.body))), *reply.headers)
    await send(
        {
            "type": "http.response.start",
            "status": reply.status,
            "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers],
        }
    )
    await send({"type": "http.response.body", "body": reply.body if body else b""})
