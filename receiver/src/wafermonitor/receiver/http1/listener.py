"""All connections of one HTTP port: how many there may be, which have stalled, and how they end.

In: a listening socket and the `Application`. Out: connections on the running loop. Called by: `server`.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import logging
import socket
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from wafermonitor.receiver.errors import AddressRejected
from wafermonitor.receiver.http1.connection import SLOW_BODY, Application, Connection
from wafermonitor.receiver.http1.exchange import Head

LOG = logging.getLogger(__name__)
BACKLOG = 1024
BUFFER_BYTES = 256 * 1024
LONGEST_LOOK_S = 0.5
LOOKS = 4
"""How often the shortest deadline is looked at while it passes."""


class Limits(NamedTuple):
    """What a connection may take: see `config`. A refused body of up to `discard_bytes` is read to its end."""

    receive_s: float
    idle_s: float
    connection_age_s: float
    max_connections: int
    discard_bytes: int


class Listener:
    """A port and its connections. `now` is the loop's time at the last look: fine enough for deadlines of seconds."""

    def __init__(self, application: Application, limits: Limits, closed: Callable[[str], None]) -> None:
        self.limits = limits
        self.stopping = False
        self.connections: dict[Connection, None] = {}
        self.port = 0
        self.buffer = memoryview(bytearray(BUFFER_BYTES))
        self.heads: dict[bytes, Head] = {}
        self._application = application
        self._closed = closed
        self._server: asyncio.Server | None = None
        self._watch: asyncio.Task[None] | None = None
        self._gone = asyncio.Event()
        self._look_s = min(LONGEST_LOOK_S, limits.receive_s / LOOKS, limits.idle_s / LOOKS)
        self._tell_time()

    async def start(self, listening: socket.socket) -> None:
        """Take connections."""
        loop = asyncio.get_running_loop()
        self.port = listening.getsockname()[1]
        self._server = await loop.create_server(lambda: Connection(self, self._application), sock=listening, backlog=BACKLOG)
        self._watch = asyncio.create_task(self._look(), name="http-deadlines")

    async def stop(self, timeout_s: float) -> None:
        """Close the port and what is idle, wait for the others, and end those that take too long."""
        self.stopping = True
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.shutdown()
        if self.connections:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._gone.wait()
        for connection in list(self.connections):
            connection.abort()
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)

    def opened(self, connection: Connection) -> None:
        """One connection more; over the limit the one goes that has had nothing to do for longest."""
        self.connections[connection] = None
        if len(self.connections) > self.limits.max_connections:
            # One that closes already makes no room twice: many may come before the loop has seen it go.
            idle = [other for other in self.connections if other.idle and not other.closing and other is not connection]
            victim = min(idle, key=lambda other: other.idle_since, default=connection)
            self._closed("too_many")
            victim.abort()

    def closed(self, connection: Connection) -> None:
        """It is gone."""
        self.connections.pop(connection, None)
        if self.stopping and not self.connections:
            self._gone.set()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(self._look_s)
            self._tell_time()
            for connection in list(self.connections):
                try:
                    self._look_at(connection)
                except Exception:
                    LOG.exception("the deadline of a connection failed in the receiver itself")
                    connection.abort()

    def _look_at(self, connection: Connection) -> None:
        why = connection.overdue(self.now)
        if why is None:
            return
        self._closed(why)
        if why == SLOW_BODY:
            connection.late()
        else:
            connection.abort()

    def _tell_time(self) -> None:
        self.now = asyncio.get_running_loop().time()
        self.date = email.utils.formatdate(time.time(), usegmt=True).encode()


def listening_socket(address: str, option: str, *, share: bool = False) -> socket.socket:
    """A bound socket. AddressRejected, with the variable to set, when the address cannot be had."""
    with _named(address, option):
        family, place = _place(address)
        return socket.create_server(place, family=family, backlog=BACKLOG, reuse_port=share)


def reserved_socket(address: str, option: str) -> socket.socket:
    """A socket that keeps a port for those who share it, and takes no connection itself. AddressRejected as above."""
    with _named(address, option):
        family, place = _place(address)
        held = socket.socket(family, socket.SOCK_STREAM)
        try:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            held.bind(place)
        except OSError:
            held.close()
            raise
        return held


def _place(address: str) -> tuple[socket.AddressFamily, tuple[str, int]]:
    host, _, port = address.rpartition(":")
    family, _, _, _, place = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
    return family, (str(place[0]), int(place[1]))


@contextlib.contextmanager
def _named(address: str, option: str) -> Iterator[None]:
    try:
        yield
    except OSError:
        raise AddressRejected(
            f"{option}: {address} cannot be listened on: is it taken? Set WAFER_RECEIVER_{option.upper()}"
        ) from None
