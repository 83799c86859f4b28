"""A TCP link that can be cut, silenced or slowed, on a free loopback port: what happens to a network happens here.

    link = tcp_proxy.start("127.0.0.1", 5432)     # or tcp_proxy.to(dsn); link.through(dsn) is the address by the link
    link.slow(0.5)                                 # whatever the client sends arrives half a second later
    link.silence()                                 # connections stand, and nothing passes
    link.cut()                                     # every connection is reset, new ones are refused
    link.heal()
    link.stop()

It runs in a thread of its own. All calls block until they have taken effect.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

CHUNK_BYTES = 256 * 1024
CHUNKS_UNDER_WAY = 64
DEADLINE_S = 10.0


def start(host: str, port: int) -> Server:
    """A link to `host:port` through which everything passes."""
    return Server(host, port)


def to(dsn: str) -> Server:
    """A link to the server of a database address."""
    parts = urlsplit(dsn)
    assert parts.hostname is not None
    assert parts.port is not None
    return Server(parts.hostname, parts.port)


class Server:
    """One link. `port` stays the same while it is cut."""

    def __init__(self, host: str, port: int) -> None:
        self._far = (host, port)
        self._delay_s = 0.0
        self._passes = asyncio.Event()
        self._passes.set()
        self._ends: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tcp-proxy", daemon=True)
        self._thread.start()
        self._run(self._listen())

    def through(self, dsn: str) -> str:
        """The same database address, by this link."""
        parts = urlsplit(dsn)
        return parts._replace(netloc=parts.netloc.replace(f":{parts.port}", f":{self.port}")).geturl()

    @property
    def connections(self) -> int:
        """How many clients are connected now."""
        return len(self._ends) // 2

    def slow(self, delay_s: float) -> None:
        """Whatever a client sends arrives `delay_s` later: each statement takes about that much more."""

        async def slow() -> None:
            self._delay_s = delay_s

        self._run(slow())

    def silence(self) -> None:
        """Bytes wait; connections stand."""

        async def silence() -> None:
            self._passes.clear()

        self._run(silence())

    def cut(self) -> None:
        """Reset every connection and refuse new ones."""
        self._run(self._close())

    def heal(self) -> None:
        """Everything passes again; what was silenced arrives."""

        async def heal() -> None:
            self._delay_s = 0.0
            self._passes.set()
            if self._server is None:
                await self._listen()

        self._run(heal())

    def stop(self) -> None:
        """Cut, and end the thread."""
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE_S)
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(DEADLINE_S)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port, limit=CHUNK_BYTES)

    async def _close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for end in self._ends:
            end.transport.abort()
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._ends.clear()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._far, limit=CHUNK_BYTES)
        except OSError:
            writer.transport.abort()  # as if nobody listened: the server behind is down
            return
        ends = {writer, far_writer}
        self._ends |= ends
        tasks = {*self._way(reader, far_writer, outward=True), *self._way(far_reader, writer, outward=False)}
        self._tasks |= tasks
        try:
            await asyncio.wait(tasks)
        finally:
            for task in tasks:
                task.cancel()
            for end in ends:
                end.transport.abort()
            self._ends -= ends
            self._tasks -= tasks

    def _way(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, outward: bool) -> list[asyncio.Task[None]]:
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(CHUNKS_UNDER_WAY)
        taking = asyncio.create_task(self._take(source, under_way, outward=outward))
        return [taking, asyncio.create_task(self._give(under_way, sink))]

    async def _take(
        self, source: asyncio.StreamReader, under_way: asyncio.Queue[tuple[float, bytes]], *, outward: bool
    ) -> None:
        data = b"?"
        while data:
            try:
                data = await source.read(CHUNK_BYTES)
            except ConnectionError:
                data = b""
            await under_way.put((self._loop.time() + self._delay_s * outward, data))

    async def _give(self, under_way: asyncio.Queue[tuple[float, bytes]], sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while True:
                due, data = await under_way.get()
                await asyncio.sleep(max(due - self._loop.time(), 0.0))
                await self._passes.wait()
                if not data:
                    sink.write_eof()
                    return
                sink.write(data)
                await sink.drain()
