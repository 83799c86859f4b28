"""A receiver in the test's own loop, on the memory engine or on a writer that can be told to fail, and one in a process."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.receiver.otlp import TRANSPORTS
from tests.servers import clickhouse as clickhouse_server
from tests.servers import postgres as server
from tests.servers.fixtures import running
from wafermonitor.receiver import server as receiver_server
from wafermonitor.receiver.config import Config
from wafermonitor.receiver.server import RunningReceiver
from wafermonitor.receiver.transcode import native
from wafermonitor.runs.records import Batch, DeadLetter
from wafermonitor.storage import memory
from wafermonitor.storage.protocol import SpanQuery

FREE = {"grpc_address": "127.0.0.1:0", "http_address": "127.0.0.1:0", "memory_bytes": 16 * 1024**3}
"""Addresses that are free; and a process of tests has more memory in use than a receiver, which would refuse what comes."""


class Store:
    """The memory engine behind a door: `fail` is asked before each write, `closed` holds writes back until it is set."""

    def __init__(self) -> None:
        self.inner = memory.Storage()
        self.row_format = None
        self.reader = self.inner.reader
        self.writer = self
        self.fail: Callable[[Sequence[Batch]], BaseException | None] = lambda _: None
        self.open = asyncio.Event()
        self.open.set()
        self.entered = asyncio.Event()
        self.waiting = 0
        self.groups: list[int] = []
        self.letters: list[DeadLetter] = []

    async def write(self, batches: Sequence[Batch]) -> None:
        self.entered.set()
        self.waiting += 1
        await self.open.wait()
        self.waiting -= 1
        error = self.fail(batches)
        if error is not None:
            raise error
        await self.inner.writer.write(batches)
        self.groups.append(len(batches))
        self.letters += [letter for batch in batches for letter in batch.dead]

    async def first_arrivals(self, arrivals: Mapping[bytes, int]) -> dict[bytes, int]:
        return await self.inner.writer.first_arrivals(arrivals)

    async def close(self) -> None:
        await self.inner.close()

    async def span_names(self) -> list[str]:
        page = await self.reader.spans(SpanQuery(limit=1000))
        return [span.name for span in page.items]


@pytest.fixture(scope="session")
def decode() -> native.Decode:
    """The native lane's `decode`; without the wheel there is nothing to compare."""
    loaded = native.load()
    if loaded is None:
        if os.environ.get("CI") and shutil.which("cargo"):
            pytest.fail("receiver/native is not built although cargo is here: run `make setup`")
        pytest.skip("receiver/native is not built here (no cargo)")
    return loaded


@pytest.fixture
def store() -> Store:
    return Store()


Start = Callable[..., Awaitable[RunningReceiver]]


@pytest.fixture
async def start(store: Store) -> AsyncIterator[Start]:
    """Start a receiver on `store`; it is stopped when the test ends."""
    receivers: list[RunningReceiver] = []

    async def start(**options: Any) -> RunningReceiver:
        options = FREE | {"drain_s": 2.0} | options
        receivers.append(await receiver_server.start(store, Config(**options)))
        return receivers[-1]

    yield start
    store.open.set()
    for receiver in receivers:
        await receiver.stop()


@pytest.fixture(params=TRANSPORTS, ids=[transport.name for transport in TRANSPORTS])
def connect(request: pytest.FixtureRequest) -> Callable[[RunningReceiver], Any]:
    """A client of each transport in turn, as an async context."""

    @asynccontextmanager
    async def connect(receiver: RunningReceiver) -> AsyncIterator[Any]:
        async with request.param(receiver.grpc_address, receiver.http_address) as client:
            yield client

    return connect


@pytest.fixture(scope="session")
def postgres() -> Iterator[server.Server]:
    """A real PostgreSQL for the session."""
    yield from running(server)


@pytest.fixture(scope="session")
def clickhouse() -> Iterator[clickhouse_server.Server]:
    """A real ClickHouse for the session."""
    yield from running(clickhouse_server)


@pytest.fixture
def durable() -> Iterator[server.Server]:
    """A PostgreSQL of its own, with fsync, for tests that kill it."""
    yield from running(server, settings={"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"})
