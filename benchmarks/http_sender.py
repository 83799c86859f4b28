"""OTLP over HTTP/1.1 keep-alive with little CPU: raw sockets, one thread, epoll, one request at a time on each connection.

In: a `Supply` of whole requests, head included; an address; how many connections. Out: a `Log`. Called by: `generator`.
"""

from __future__ import annotations

import re
import select
import socket
import time
from collections import deque

from benchmarks.supply import Answer, Log, Pace, Supply

_READ_BYTES = 65_536
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_RETRY = re.compile(rb"(?i)\r\nretry-after: *\d")
_AGAIN = (429, 502, 503, 504)
_KNOWN = 64


class _Connection:
    """One socket and the request that is on its way on it."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address
        self.number = -1
        self.due_ns = 0
        self.left: memoryview | None = None
        self.received = b""
        self.open()

    def open(self) -> None:
        self.waits = False
        self.socket = socket.create_connection(self.address, timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(0)


class HttpSender:
    """Sends until told to stop; a request that is refused is not sent again."""

    def __init__(self, address: str, connections: int) -> None:
        host, _, port = address.rpartition(":")
        self._epoll = select.epoll()
        self._idle: deque[_Connection] = deque()
        self._all: dict[int, _Connection] = {}
        self._known: dict[bytes, Answer] = {}
        for _ in range(connections):
            self._join(_Connection((host, int(port))))

    def run(self, supply: Supply, pace: Pace, log: Log, until_ns: int, grace_s: float) -> None:
        """Send until `until_ns`, then wait at most `grace_s` for what is on its way."""
        end_ns = until_ns + int(grace_s * 1e9)
        more = self._fill(supply, pace)
        while True:
            now_ns = time.monotonic_ns()
            if now_ns >= until_ns:
                more = False
            if not more and (len(self._idle) == len(self._all) or now_ns >= end_ns):
                break
            wait_s = pace.wait_s(now_ns) if more and self._idle else 0.2
            for descriptor, event in self._epoll.poll(wait_s):
                connection = self._all[descriptor]
                if event & select.EPOLLOUT and connection.left is not None:
                    self._push(connection)
                if event & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR) and self._pull(connection, log):
                    if more and pace.closed and (turn := supply.next()) is not None:
                        self._send(connection, turn, time.monotonic_ns())
                    else:
                        self._idle.append(connection)
            if more:
                more = self._fill(supply, pace)
        self._close(log)

    def _fill(self, supply: Supply, pace: Pace) -> bool:
        """Give idle connections what is due; False when the supply has ended."""
        while self._idle:
            due_ns = pace.take(time.monotonic_ns())
            if due_ns is None:
                return True
            turn = supply.next()
            if turn is None:
                return False
            self._send(self._idle.popleft(), turn, due_ns)
        return True

    def _send(self, connection: _Connection, turn: tuple[int, bytes | memoryview], due_ns: int) -> None:
        connection.number, data = turn
        connection.due_ns = due_ns
        connection.left = memoryview(data)
        self._push(connection)

    def _push(self, connection: _Connection) -> None:
        """Send what the socket takes; a connection that breaks is noticed where it is read."""
        left = connection.left
        assert left is not None
        try:
            while left:
                left = left[connection.socket.send(left) :]
        except BlockingIOError:
            if not connection.waits:
                self._watch(connection, waits=True)
            connection.left = left
            return
        except OSError:
            pass
        connection.left = None
        if connection.waits:
            self._watch(connection, waits=False)

    def _watch(self, connection: _Connection, *, waits: bool) -> None:
        connection.waits = waits
        self._epoll.modify(connection.socket.fileno(), select.EPOLLIN | (select.EPOLLOUT if waits else 0))

    def _pull(self, connection: _Connection, log: Log) -> bool:
        """Read; True when the connection is free again."""
        try:
            data = connection.socket.recv(_READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            return self._lost(connection, log)
        if connection.received:
            data = connection.received + data
        answer = self._known.get(data)
        if answer is None:
            answer = _answer(data)
            if answer is None:
                connection.received = data
                return False
            if len(self._known) > _KNOWN:
                self._known.clear()
            self._known[data] = answer
        connection.received = b""
        log.add((connection.number, connection.due_ns, time.monotonic_ns(), answer))
        connection.number = -1
        if b"\r\nconnection: close" in data.lower() or connection.left is not None:
            return self._lost(connection, log)
        return True

    def _lost(self, connection: _Connection, log: Log) -> bool:
        """The connection is gone: note the request, open another."""
        if connection.number >= 0:
            log.add((connection.number, connection.due_ns, time.monotonic_ns(), Answer.LOST))
        self._all.pop(connection.socket.fileno(), None)
        connection.socket.close()
        connection.number, connection.left, connection.received = -1, None, b""
        try:
            connection.open()
        except OSError:
            return False
        self._all[connection.socket.fileno()] = connection
        self._epoll.register(connection.socket.fileno(), select.EPOLLIN)
        return True

    def _join(self, connection: _Connection) -> None:
        self._all[connection.socket.fileno()] = connection
        self._epoll.register(connection.socket.fileno(), select.EPOLLIN)
        self._idle.append(connection)

    def _close(self, log: Log) -> None:
        for connection in self._all.values():
            if connection.number >= 0:
                log.add((connection.number, connection.due_ns, time.monotonic_ns(), Answer.LOST))
            connection.socket.close()
        self._epoll.close()


def _answer(data: bytes) -> Answer | None:
    """What a whole answer says; None while it is not whole."""
    head, blank, body = data.partition(b"\r\n\r\n")
    if not blank:
        return None
    found = _LENGTH.search(head)
    if found is None:
        raise SystemExit(f"an answer without content-length: {head!r}")
    if len(body) < int(found[1]):
        return None
    status = int(head[9:12])
    if status == 200:
        return Answer.ACKED
    if status in _AGAIN:
        return Answer.REFUSED if _RETRY.search(head) else Answer.REFUSED_WITHOUT_HINT
    return Answer.REJECTED
