"""One suite, every engine: a test that takes `engine` runs on memory and on PostgreSQL, and must see the same."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import asyncpg
import pytest

from tests.storage.contract.builders import NOW
from wafermonitor.storage import memory
from wafermonitor.storage.protocol import Reader, Writer
from wafermonitor.storage.timescale import codecs, reader, writer


@dataclass
class Engine:
    """A store, empty and new, with a clock that the test moves. `pool` is None for memory."""

    writer: Writer
    reader: Reader
    clock: Clock
    another_writer: Callable[[], Writer]
    pool: asyncpg.Pool | None = None


class Clock:
    """Stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.now_ns = NOW

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.postgres)])
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    """Both engines in turn."""
    clock = Clock()
    if request.param == "memory":
        store = memory.Storage(clock=clock)
        yield Engine(store.writer, store.reader, clock, lambda: store.writer)
        return
    server = request.getfixturevalue("postgres")
    pool = await asyncpg.create_pool(server.migrated(), min_size=1, max_size=6, init=codecs.register)
    yield Engine(writer.Writer(pool), reader.Reader(pool, clock=clock), clock, lambda: writer.Writer(pool), pool)
    await pool.close()
