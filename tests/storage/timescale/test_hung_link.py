"""A link on which nothing passes any more, while every connection seems to stand: no call hangs for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from urllib.parse import urlsplit

import pytest

from tests.storage.contract.builders import NOW, run, span
from wafermonitor.runs.records import Batch
from wafermonitor.storage.config import Config
from wafermonitor.storage.connect import connect
from wafermonitor.storage.errors import StorageUnavailable
from wafermonitor.storage.timescale import maintenance, session, store
from wafermonitor.storage.timescale.store import Storage

pytestmark = pytest.mark.postgres

WAIT_S = 0.3
DEADLINE_S = 30.0


class Link:
    """TCP to a server; while `open` is not set, bytes wait and connections stand."""

    def __init__(self, dsn: str) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self._dsn = urlsplit(dsn)
        self._tasks: list[asyncio.Task[None]] = []
        self._ends: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    async def start(self) -> str:
        """The address through the link."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        return self._dsn._replace(netloc=self._dsn.netloc.replace(f":{self._dsn.port}", f":{port}")).geturl()

    async def stop(self) -> None:
        """Cut everything."""
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for end in self._ends:
            end.transport.abort()
            with suppress(OSError):
                await end.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far = await asyncio.open_connection(self._dsn.hostname, self._dsn.port)
        self._ends += [writer, far[1]]
        self._tasks += [asyncio.create_task(self._pass(*way)) for way in ((reader, far[1]), (far[0], writer))]

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await source.read(65536):
                await self.open.wait()
                sink.write(data)
                await sink.drain()
        sink.close()


@pytest.fixture
async def link(dsn: str) -> AsyncIterator[Link]:
    """A link to this test's database."""
    made = Link(dsn)
    yield made
    await made.stop()


@pytest.fixture
async def far(link: Link, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Storage]:
    """The store behind the link."""
    monkeypatch.setattr(store, "CONNECT_TIMEOUT_S", WAIT_S)
    opened = await connect(Config.load(dsn=await link.start(), command_timeout_s=WAIT_S))
    assert isinstance(opened, Storage)
    yield opened
    async with asyncio.timeout(DEADLINE_S):
        await opened.close()


async def test_every_call_ends_and_works_again_when_the_link_does(link: Link, far: Storage) -> None:
    await far.writer.write([Batch(spans=[span(1)], runs=[run(1)])])
    link.open.clear()
    async with asyncio.timeout(DEADLINE_S):
        for _ in range(3):
            with pytest.raises(StorageUnavailable):
                await far.writer.write([Batch(spans=[span(2)], runs=[run(1)])])
            with pytest.raises(StorageUnavailable):
                await far.reader.health()
            with pytest.raises(StorageUnavailable):
                await maintenance.run_once(far.pool, hot_days=3, now_ns=NOW)
        link.open.set()
        while True:
            try:
                await far.writer.write([Batch(spans=[span(2)], runs=[run(1)])])
            except StorageUnavailable:
                continue
            break
    assert await far.pool.fetchval("SELECT count(*) FROM wafer_data.span") == 2


async def test_a_server_that_takes_connections_and_says_nothing_is_not_waited_for(link: Link) -> None:
    address = await link.start()
    link.open.clear()
    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(StorageUnavailable):
            async with session.open_session(address, timeout_s=WAIT_S):
                pass


async def test_a_link_that_hangs_between_connecting_and_asking_is_not_waited_for(link: Link) -> None:
    address = await link.start()
    async with asyncio.timeout(DEADLINE_S):
        async with session.open_session(address, command_timeout_s=WAIT_S) as connection:
            link.open.clear()
            with pytest.raises(TimeoutError):  # becomes StorageUnavailable at the border
                await connection.execute("SELECT 1")


async def test_closing_does_not_wait_for_a_hung_link(link: Link, far: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_CLOSE_TIMEOUT_S", WAIT_S)
    link.open.clear()
    async with asyncio.timeout(DEADLINE_S):
        await far.close()
