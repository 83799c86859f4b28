"""OTLP/HTTP and every other route of the receiver: who is let in, what a body may be, and what is answered.

In: exchanges of `http1`: POST /v1/traces, /v1/logs, /v1/metrics with protobuf or JSON, plain, gzip or zstd; the older routes
(`legacy`); other routes as they are given. Out: export responses or `google.rpc.Status`, both in the request's content type;
JSON on older routes. Called by: `http1.connection`.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time

from wafermonitor.receiver import answers, legacy
from wafermonitor.receiver.admission import ENCODINGS, INLINE_BYTES, Budget, Hold, authorize, inflate, inflated, too_large
from wafermonitor.receiver.answers import Answer
from wafermonitor.receiver.config import Config
from wafermonitor.receiver.errors import (
    MediaRejected,
    MethodRejected,
    ReceiverError,
    ReceiverUnavailable,
    RequestRejected,
    RouteRejected,
    TooSlow,
)
from wafermonitor.receiver.fair_queue import Waiting
from wafermonitor.receiver.http1.body import Body
from wafermonitor.receiver.http1.connection import Exchange
from wafermonitor.receiver.http1.exchange import Call, Handler, Head, Reply, Routes
from wafermonitor.receiver.outlet import Outlet
from wafermonitor.receiver.telemetry import Telemetry
from wafermonitor.receiver.transcode.protocol import Encoding, Request, Signal

LOG = logging.getLogger(__name__)
PATHS = {f"/v1/{signal.value}": signal for signal in Signal}
MEDIA = {"application/x-protobuf": Encoding.PROTOBUF, "application/json": Encoding.JSON}
MEDIA_OF = {encoding: media for media, encoding in MEDIA.items()} | {Encoding.EVENTS: "application/json"}
HTTP_OK = 200
HTTP_UNAUTHORIZED = 401
_PLAIN = ("", "identity")


class _Intake:
    """What becomes of an exchange's body: an export request of `signal`, or the call of a route."""

    __slots__ = ("encoding", "handler", "share", "signal", "task", "waiting")

    def __init__(self, share: Hold, signal: Signal, encoding: Encoding, handler: Handler | None) -> None:
        self.share = share
        self.signal = signal
        self.encoding = encoding
        self.handler = handler
        self.waiting: Waiting | None = None
        self.task: asyncio.Task[None] | None = None


class Application:
    """The routes of one port. Without `takes_otlp` and `takes_older` only the given routes are served."""

    def __init__(
        self,
        config: Config,
        budget: Budget,
        outlet: Outlet,
        telemetry: Telemetry,
        routes: Routes,
        *,
        takes_otlp: bool = True,
        takes_older: bool = True,
    ) -> None:
        self._limit = config.max_request_bytes
        self._receive_s = config.receive_s
        self._token = config.token.get_secret_value() if config.token else None
        self._budget = budget
        self._outlet = outlet
        self._telemetry = telemetry
        self._routes = routes
        older = dict.fromkeys(legacy.PATHS, Signal.LOGS) if takes_older else {}
        self._signals = PATHS | older if takes_otlp else older
        self._older = legacy.Routes(outlet.submit)
        self._whole = {
            (signal, encoding): Reply(HTTP_OK, media, answers.response(signal, Answer(), encoding))
            for signal in Signal
            for media, encoding in MEDIA.items()
        }

    # What the connection calls.

    def begin(self, exchange: Exchange) -> None:
        """The head is there: let the body in, or refuse it before it comes."""
        try:
            exchange.state = intake = self._admit(exchange.head)
        except ReceiverError as error:
            self._refuse(exchange, error)
            return
        exchange.body = Body(functools.partial(self._count, exchange, intake))

    def finish(self, exchange: Exchange) -> None:
        """The body is there."""
        intake: _Intake = exchange.state
        assert exchange.body is not None
        body = exchange.body.whole()
        exchange.body = None
        coding = exchange.head.headers.get("content-encoding", "").strip().lower()
        if (
            intake.handler is not None
            or intake.encoding is Encoding.EVENTS
            or (coding not in _PLAIN and len(body) > INLINE_BYTES)
        ):
            intake.task = asyncio.create_task(self._finish_later(exchange, intake, body, coding))
            return
        try:
            self._export(
                exchange, intake, body if coding in _PLAIN else self._swap(intake, body, inflated(body, coding, self._limit))
            )
        except ReceiverError as error:
            self._refuse(exchange, error)

    def malformed(self, status: int, words: str) -> Reply:
        """Bytes that are no HTTP request."""
        error = RequestRejected(words)
        self._telemetry.answered("http", "none", error)
        return Reply(status, MEDIA_OF[Encoding.JSON], answers.status_body(error, Encoding.JSON))

    def late(self, exchange: Exchange) -> None:
        """The body stalls."""
        self._refuse(exchange, TooSlow(f"the body stalled for {self._receive_s:g} s; try again"))

    def gone(self, exchange: Exchange) -> None:
        """Nobody is left to answer."""
        intake: _Intake | None = exchange.state
        if intake is None:
            return
        if intake.waiting is not None:
            self._outlet.leave(intake.waiting)
        if intake.task is not None:
            intake.task.cancel()
        intake.share.release()

    # In the order in which a request meets them.

    def _admit(self, head: Head) -> _Intake:
        """What the head alone allows or forbids."""
        handler = self._routes.get(("GET" if head.method == "HEAD" else head.method, head.path))
        if handler is not None:
            return _Intake(Hold(self._budget), Signal.LOGS, Encoding.JSON, handler)
        signal = self._signals.get(head.path)
        if signal is None:
            raise self._unknown(head)
        if head.method != "POST":
            raise MethodRejected("use POST")
        authorize(self._token, head.headers.get("authorization"))
        encoding = self._encoding(head)
        if encoding is None:
            raise MediaRejected(f"content-type must be {' or '.join(MEDIA)}")
        if head.headers.get("content-encoding", "").strip().lower() not in (*ENCODINGS, ""):
            raise MediaRejected(f"content-encoding must be one of {', '.join(ENCODINGS)}")
        length = head.length or 0
        if length > self._limit:
            raise too_large(self._limit)
        self._budget.check()
        share = Hold(self._budget)
        # All of it at once: of many large bodies some arrive, instead of all until there is no room.
        share.add(length)
        return _Intake(share, signal, encoding, None)

    @staticmethod
    def _encoding(head: Head) -> Encoding | None:
        encoding = MEDIA.get(head.headers.get("content-type", "").partition(";")[0].strip().lower())
        if head.path in legacy.PATHS:
            return Encoding.EVENTS if encoding is Encoding.JSON else None
        return encoding

    def _unknown(self, head: Head) -> ReceiverError:
        if any(path == head.path for _, path in self._routes):
            return MethodRejected(f"{head.path} does not take {head.method}")
        return RouteRejected(f"no such path; OTLP/HTTP is POST {', '.join(PATHS)}")

    def _count(self, exchange: Exchange, intake: _Intake, number: int) -> bool:
        """Whether a piece of the body may be kept: no wrong Content-Length makes more of it than there may be."""
        assert exchange.body is not None
        seen = exchange.body.seen
        try:
            if seen > self._limit:
                raise too_large(self._limit)
            if seen > intake.share.held_bytes:
                intake.share.add(number)
        except ReceiverError as error:
            self._refuse(exchange, error)
            return False
        return True

    @staticmethod
    def _swap(intake: _Intake, sent: bytes, body: bytes) -> bytes:
        """Hold the inflated body instead of the one that was sent."""
        intake.share.drop(len(sent))
        intake.share.add(len(body))
        return body

    def _export(self, exchange: Exchange, intake: _Intake, body: bytes) -> None:
        request = Request(intake.signal, intake.encoding, body, time.time_ns())
        intake.waiting = self._outlet.enqueue(request, functools.partial(self._answered, exchange, intake), intake.share)

    def _answered(self, exchange: Exchange, intake: _Intake, outcome: Answer | ReceiverError) -> None:
        """Called by the outlet after the commit."""
        if isinstance(outcome, ReceiverError):
            self._refuse(exchange, outcome)
            return
        signal, encoding = intake.signal, intake.encoding
        intake.share.release()
        self._telemetry.answered("http", signal.value, None)
        if outcome.rejected:
            exchange.reply(Reply(HTTP_OK, MEDIA_OF[encoding], answers.response(signal, outcome, encoding)))
        else:
            exchange.reply(self._whole[signal, encoding])

    async def _finish_later(self, exchange: Exchange, intake: _Intake, body: bytes, coding: str) -> None:
        """What takes a thread or is the call of a route."""
        try:
            if coding not in _PLAIN:
                body = self._swap(intake, body, await inflate(body, coding, self._limit))
            if intake.handler is not None:
                reply = await intake.handler(Call(exchange.head, body, time.time_ns()))
            elif intake.encoding is Encoding.EVENTS:
                reply = await self._older_reply(Request(intake.signal, intake.encoding, body, time.time_ns()), intake.share)
            else:
                self._export(exchange, intake, body)
                return
        except ReceiverError as error:
            self._refuse(exchange, error)
        except Exception:
            LOG.exception("an HTTP request failed in the receiver itself")
            self._refuse(exchange, ReceiverUnavailable("the receiver could not do it; try again"))
        else:
            intake.share.release()
            exchange.reply(reply)

    async def _older_reply(self, request: Request, share: Hold) -> Reply:
        done = await self._older.handle(request, share)
        self._telemetry.answered("http", request.encoding.value, done.error)
        if done.error is None:
            return Reply(done.status, MEDIA_OF[request.encoding], done.body)
        return refusal(done.error, request.encoding, body=done.body)

    def _refuse(self, exchange: Exchange, error: ReceiverError) -> None:
        intake: _Intake | None = exchange.state
        if intake is not None:
            intake.share.release()
        head = exchange.head
        signal = self._signals.get(head.path)
        older = signal is not None and head.path in legacy.PATHS
        encoding = Encoding.EVENTS if older else self._encoding(head) or Encoding.JSON
        label = encoding.value if older else signal.value if signal else "none"
        self._telemetry.answered("http", label, error)
        exchange.reply(refusal(error, encoding, allow="POST" if signal else "GET, HEAD"))


def refusal(error: ReceiverError, encoding: Encoding, *, body: bytes | None = None, allow: str = "POST") -> Reply:
    """The answer to a request that is not accepted, with the headers that belong to it.

    `body` is what an older route says; None is `Status` in the request's encoding, or the older routes' words for it.
    """
    headers: list[tuple[str, str]] = []
    after = answers.retry_after(error)
    if after is not None:
        headers.append(("retry-after", after))
    if isinstance(error, MethodRejected):
        headers.append(("allow", allow))
    if isinstance(error, MediaRejected):
        headers.append(("accept-encoding", ", ".join(ENCODINGS)))
    if error.http_status == HTTP_UNAUTHORIZED:  # RFC 9110 11.6.1 asks for the challenge with this status
        headers.append(("www-authenticate", "Bearer"))
    if body is None:
        body = legacy.refusal_body(error) if encoding is Encoding.EVENTS else answers.status_body(error, encoding)
    return Reply(error.http_status, MEDIA_OF[encoding], body, tuple(headers))
