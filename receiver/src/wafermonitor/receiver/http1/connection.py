"""One HTTP/1.1 connection: reads requests, gives them to the application, writes the answers in order.

In: bytes of a socket. Out: `Exchange`s to an `Application`, its replies to the socket. Called by: `listener`, the event loop.

Not a general server: one that knows the size and the share of what arrives while it arrives, so that a sender that is slow,
too large or too many is refused while its bytes are few. httptools (llhttp) does the parsing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

import httptools

from wafermonitor.receiver.http1.body import Body
from wafermonitor.receiver.http1.exchange import Head, Reply

if TYPE_CHECKING:
    from wafermonitor.receiver.http1.listener import Listener

LOG = logging.getLogger(__name__)
MAX_HEAD_BYTES = 32 * 1024
MAX_FIELDS = 256
MAX_PIPELINED = 8
"""Requests of one connection that wait for their answers; beyond that nothing is read."""
MAX_UNREAD_BYTES = 1024 * 1024
"""Answers that a sender has asked for and does not read; with more it is no sender."""
SLOWEST_BYTES_PER_S = 64 * 1024
"""A body that arrives faster is not stalled, and may take LONGEST_BODY_S more."""
LONGEST_BODY_S = 60.0
REASONS = {
    200: b"OK", 400: b"Bad Request", 401: b"Unauthorized", 404: b"Not Found", 405: b"Method Not Allowed",
    413: b"Content Too Large", 415: b"Unsupported Media Type", 429: b"Too Many Requests", 431: b"Header Too Large",
    503: b"Service Unavailable",
}  # fmt: skip
SLOW_BODY = "slow_body"
LINGER_S = 2.0
"""How long the rest of a refused body is thrown away after the answer."""
MOST_HEADS = 512
LONGEST_HEAD_BYTES = 2048
LONGEST_KNOWN_BYTES = 32 * 1024
"""Of a whole request whose head is looked for among those that were read before."""
UNCOMMON = {"expect", "transfer-encoding", "upgrade"}
END_OF_HEAD = b"\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Application(Protocol):
    """What answers the requests of a connection."""

    def begin(self, exchange: Exchange) -> None:
        """The head is there: may set `exchange.body` to take the body, or reply already; then the rest is thrown away."""

    def finish(self, exchange: Exchange) -> None:
        """The body is there, unless it was replied to already. The reply may come later."""

    def malformed(self, status: int, words: str) -> Reply:
        """The answer to bytes that are no HTTP request."""

    def late(self, exchange: Exchange) -> None:
        """The body stalls: must reply."""

    def gone(self, exchange: Exchange) -> None:
        """The sender is gone before its answer: give back what the exchange holds."""


class Exchange:
    """A request and the place for its answer."""

    __slots__ = ("body", "complete", "connection", "head", "keep", "output", "replied", "state")

    def __init__(self, connection: Connection, head: Head) -> None:
        self.connection = connection
        self.head = head
        self.body: Body | None = None
        self.complete = False
        self.keep = True
        self.output: bytes | None = None
        self.replied = False
        self.state: Any = None
        """The application's own."""

    def reply(self, reply: Reply) -> None:
        """Answer, once. Nothing happens when the sender is gone."""
        if not self.replied:
            self.replied = True
            self.body = None
            self.connection.send(self, reply)


class Connection(asyncio.BufferedProtocol):
    """A sender's connection. `listener` looks at `deadline` once in a while."""

    __slots__ = (
        "_again", "_application", "_begun", "_exchanges", "_fields", "_head_bytes", "_headers", "_listener", "_parser",
        "_paused", "_rest_bytes", "_seen", "_target", "_transport", "_unread_until", "born", "closing", "current", "deadline",
        "idle_since",
    )  # fmt: skip

    def __init__(self, listener: Listener, application: Application) -> None:
        self._listener = listener
        self._application = application
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._exchanges: deque[Exchange] = deque()
        self._headers: dict[str, str] = {}
        self._target = b""
        self._head_bytes = 0
        self._paused = False
        self._unread_until = 0.0
        self._fields = 0
        self._again = False
        self._begun = False
        self._seen = b""
        self._rest_bytes = 0
        self.current: Exchange | None = None
        self.closing = False
        self.born = self.idle_since = listener.now
        self.deadline = 0.0

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Counted by the listener, which may have no room for it."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.deadline = self._listener.now + self._listener.limits.receive_s
        self._listener.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The sender is gone, or we closed."""
        del exc
        self._transport = None
        self._listener.closed(self)
        for exchange in self._exchanges:
            if not exchange.replied:
                exchange.replied = True
                self._application.gone(exchange)
        self._exchanges.clear()
        self.current = None

    def get_buffer(self, sizehint: int) -> memoryview:
        """One for all connections: what is in it is parsed before the loop reads from another."""
        del sizehint
        return self._listener.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes are in the buffer."""
        self._take(self._listener.buffer[:nbytes])

    def _take(self, data: memoryview) -> None:
        """Parse; bytes behind a request that is the connection's last are thrown away."""
        if self.closing or (self.current is None and self._exchanges and not self._exchanges[-1].keep):
            return
        if len(data) <= LONGEST_KNOWN_BYTES and not self._begun and self._take_known(bytes(data)):
            return
        self._head_bytes += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserCallbackError:
            LOG.exception("an HTTP request failed in the receiver itself")
            self.abort()
            return
        except httptools.HttpParserError:
            if not self.closing:
                self._refuse(400, "the bytes are no HTTP/1.1 request")
            return
        if self._head_bytes > MAX_HEAD_BYTES and not self.closing:
            if self.current is None:
                self._refuse(431, f"the header is larger than {MAX_HEAD_BYTES} bytes")
            else:
                self._refuse(400, f"a chunk's size or the trailers are larger than {MAX_HEAD_BYTES} bytes")

    def _take_known(self, data: bytes) -> bool:
        """A whole request, and nothing behind it, with a head that was read before: no parser is needed to read it again."""
        end = data.find(END_OF_HEAD) + len(END_OF_HEAD)
        head = self._listener.heads.get(data[:end])
        if head is None or head.length != len(data) - end:
            # llhttp passes over empty lines before a request: what begins with one need not end where the header does.
            self._seen = data[:end] if data[:1].isalpha() and len(END_OF_HEAD) < end <= LONGEST_HEAD_BYTES else b""
            self._rest_bytes = len(data) - end
            return False
        exchange = Exchange(self, head)
        self.current = exchange
        self._exchanges.append(exchange)
        try:
            self._application.begin(exchange)
            if exchange.body is not None:
                exchange.body.add(data[end:])
            self._complete()
        except Exception:
            LOG.exception("an HTTP request failed in the receiver itself")
            self.abort()
        return True

    def _remember(self, exchange: Exchange) -> None:
        """Senders say the same with every request. What came as one piece, as the parser sees it, is not parsed again."""
        head, heads = exchange.head, self._listener.heads
        # A line for each field, the first one and the empty one: else the parser saw the end somewhere else.
        alike = self._seen.count(b"\n") == self._fields + 2 and head.length == self._rest_bytes
        if alike and head.length and exchange.keep and not UNCOMMON & head.headers.keys():
            if len(heads) >= MOST_HEADS:
                heads.clear()
            heads[self._seen] = head

    def _feed(self, data: memoryview) -> None:
        """Nobody is upgraded here: RFC 9110 7.8 lets a server answer in the old protocol. llhttp stops behind the header."""
        while True:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
            else:
                return
            self._parser = httptools.HttpRequestParser(self)
            if self.current is not None:
                # The body is still to come: a parser that has read the same request without the wish reads it.
                self._again = True
                self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n\r\n" % _framing(self.current.head))
                self._again = False

    def pause_writing(self) -> None:
        """The sender does not read its answers: nothing more is read of it, and the deadline runs."""
        self._pause()
        self._unread_until = self._listener.now + self._listener.limits.receive_s

    def resume_writing(self) -> None:
        """It reads again."""
        self._unread_until = 0.0
        if len(self._exchanges) < MAX_PIPELINED:
            self._resume()

    # What the parser calls.

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        if self._again:
            return
        self._begun = True
        self._headers = {}
        self._fields = 0
        self._target = b""
        self.deadline = self._listener.now + self._listener.limits.receive_s

    def on_url(self, url: bytes) -> None:
        """A piece of the target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; of one that comes twice the values are joined, as RFC 9110 5.3 says. Behind a body nothing counts."""
        if self.current is not None:
            return
        self._fields += 1
        if self._fields > MAX_FIELDS:
            return
        key = name.lower().decode("latin-1")
        text = value.decode("latin-1")
        self._headers[key] = f"{self._headers[key]}, {text}" if key in self._headers else text

    def on_headers_complete(self) -> None:
        """The head is there. Of a connection that ends, nothing more is looked at."""
        if self.closing or self._again:
            return
        path, _, query = _origin_form(self._target).partition(b"?")
        length = self._headers.get("content-length")
        head = Head(
            self._parser.get_method().decode("latin-1"),
            path.decode("latin-1"),
            query.decode("latin-1"),
            self._headers,
            int(length) if length is not None and length.isdecimal() else None,
        )
        self.deadline = self._listener.now + self._listener.limits.receive_s
        self.current = exchange = Exchange(self, head)
        exchange.keep = self._parser.should_keep_alive()
        self._exchanges.append(exchange)
        if self._parser.get_http_version() == "1.1" and "," in self._headers.get("host", ","):
            # RFC 9112 3.2: none or several hosts is how one request is made to look like another.
            exchange.keep = False
            exchange.reply(self._application.malformed(400, "an HTTP/1.1 request has one Host header"))
            return
        if self._fields > MAX_FIELDS:
            exchange.keep = False
            exchange.reply(self._application.malformed(431, f"the header has more than {MAX_FIELDS} fields"))
            return
        if self._seen:
            self._remember(exchange)
            self._seen = b""
        self._application.begin(exchange)
        if "expect" in self._headers and not exchange.replied and self._transport is not None:
            self._transport.write(CONTINUE)

    def on_body(self, data: bytes) -> None:
        """A piece of the body; it is thrown away when the request is refused already."""
        self._head_bytes = 0
        exchange = self.current
        if exchange is not None and exchange.body is not None:
            exchange.body.add(data)

    def on_message_complete(self) -> None:
        """The request is there, unless it wants an upgrade: then its body is still to come, and `_feed` sees to it."""
        if self._parser.should_upgrade() and self.current is not None and _framing(self.current.head):
            return
        self._complete()

    def _complete(self) -> None:
        exchange, self.current = self.current, None
        self._head_bytes = 0
        self._begun = False
        if exchange is None or self.closing:
            return
        self.deadline = 0.0
        exchange.complete = True
        if exchange.replied:
            self._flush()
            return
        self._application.finish(exchange)
        if len(self._exchanges) >= MAX_PIPELINED:
            self._pause()

    # What the application and the listener call.

    def send(self, exchange: Exchange, reply: Reply) -> None:
        """Write the reply when those before it are written."""
        if self._transport is None:
            return
        exchange.output = self._encoded(exchange, reply)
        self._flush()

    def shutdown(self) -> None:
        """Close when nothing is owed to the sender."""
        if not self._exchanges:
            self.close()

    def close(self) -> None:
        """Close after what is written has left."""
        self.closing = True
        self.deadline = self._listener.now + LINGER_S
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close now."""
        self.closing = True
        if self._transport is not None:
            self._transport.abort()

    @property
    def idle(self) -> bool:
        """No request is being read or answered."""
        return not self._exchanges

    def overdue(self, now: float) -> str | None:
        """Why the connection should end now: a header or a body that stalls, an answer that is not read, nothing to do."""
        limits = self._listener.limits
        if self.closing:
            why, until = "lingers", self.deadline
        elif self._unread_until:
            why, until = "answer_not_read", self._unread_until
        elif self._paused:
            return None
        elif self.current is not None:
            seen = self.current.body.seen if self.current.body is not None else 0
            why, until = SLOW_BODY, self.deadline + min(seen / SLOWEST_BYTES_PER_S, LONGEST_BODY_S)
        elif self.deadline:
            why, until = "slow_header", self.deadline
        elif self.idle:
            why, until = "idle", self.idle_since + limits.idle_s
        else:
            return None
        return why if now > until else None

    def late(self) -> None:
        """The body stalls: answer and close."""
        exchange = self.current
        if exchange is None or exchange is not self._exchanges[0]:
            self.abort()
            return
        exchange.keep = False
        if not exchange.replied:
            self._application.late(exchange)
        else:
            self._flush()

    def _refuse(self, status: int, words: str) -> None:
        """Answer bytes that are no request, after the answers that are owed, and close."""
        exchange, self.current = self.current, None
        if exchange is None:
            if self._exchanges and not self._exchanges[-1].keep:
                return  # nothing is read behind the last request
            exchange = Exchange(self, Head("", "", "", {}, None))
            self._exchanges.append(exchange)
        elif not exchange.replied:
            self._application.gone(exchange)
        exchange.keep = False
        self.deadline = 0.0
        if exchange.replied:
            self._flush()
        else:
            exchange.reply(self._application.malformed(status, words))

    def _encoded(self, exchange: Exchange, reply: Reply) -> bytes:
        if exchange.keep and (
            (not exchange.complete and not self._may_discard(exchange))
            or self._listener.stopping
            or self._listener.now > self.born + self._listener.limits.connection_age_s
        ):
            exchange.keep = False
        lines = [
            b"HTTP/1.1 %d %b\r\ncontent-type: %b\r\ncontent-length: %d\r\ndate: %b\r\n"
            % (reply.status, REASONS.get(reply.status, b""), reply.media.encode(), len(reply.body), self._listener.date)
        ]
        lines += [f"{name}: {value}\r\n".encode("latin-1") for name, value in reply.headers]
        lines.append(b"\r\n" if exchange.keep else b"connection: close\r\n\r\n")
        if exchange.head.method != "HEAD":
            lines.append(reply.body)
        return b"".join(lines)

    def _may_discard(self, exchange: Exchange) -> bool:
        """Whether the rest of a refused body is worth reading: many clients look for an answer only after they sent all."""
        length = exchange.head.length
        return "expect" not in exchange.head.headers and (length is None or length <= self._listener.limits.discard_bytes)

    def _flush(self) -> None:
        """Write every answer whose turn it is."""
        transport = self._transport
        while transport is not None and self._exchanges:
            exchange = self._exchanges[0]
            if exchange.output is None or not (exchange.complete or not exchange.keep):
                break
            transport.write(exchange.output)
            self._exchanges.popleft()
            if transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
                self.abort()
                return
            if not exchange.keep:
                self._end(transport, exchange)
                return
        if not self._exchanges:
            self.idle_since = self._listener.now
            if self._listener.stopping:
                self.close()
                return
        if not self._unread_until and len(self._exchanges) < MAX_PIPELINED and not self.closing:
            self._resume()

    def _end(self, transport: asyncio.Transport, exchange: Exchange) -> None:
        self.closing = True
        self.current = None
        if not exchange.complete and transport.can_write_eof():
            # To close with unread bytes resets the connection, and the sender may lose the answer: the listener closes later.
            transport.write_eof()
            self.deadline = self._listener.now + LINGER_S
            return
        self.close()

    def _pause(self) -> None:
        if not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._paused and self._transport is not None:
            self._paused = False
            if self.deadline:
                self.deadline = self._listener.now + self._listener.limits.receive_s
            self._transport.resume_reading()


def _framing(head: Head) -> bytes:
    """The header that says where the body of `head` ends, as it was sent; empty when it has none."""
    if "transfer-encoding" in head.headers:
        return b"transfer-encoding: %b" % head.headers["transfer-encoding"].encode("latin-1")
    return b"content-length: %d" % head.length if head.length else b""


def _origin_form(target: bytes) -> bytes:
    """The path and query of a target; a proxy may send it with scheme and host (RFC 9112 3.2.2)."""
    if target.startswith(b"/"):
        return target
    _, _, rest = target.partition(b"://")
    return b"/" + rest.partition(b"/")[2]
