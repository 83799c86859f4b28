"""Opened stores for tests: both ends of an engine, and the clock its reader goes by."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from tests.storage.contract.builders import NOW
from wafermonitor.storage import memory
from wafermonitor.storage.protocol import Reader, Writer
from wafermonitor.storage.timescale import codecs, reader, writer
from wafermonitor.storage.timescale.session import SETTINGS


class Clock:
    """Stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.now_ns = NOW

    def __call__(self) -> int:
        return self.now_ns


@dataclass
class Engine:
    """A store, empty and new. `pool` is None for memory."""

    writer: Writer
    reader: Reader
    clock: Clock
    another_writer: Callable[[], Writer]
    pool: asyncpg.Pool | None = None


def in_memory() -> Engine:
    """The memory engine."""
    clock = Clock()
    store = memory.Storage(clock=clock)
    return Engine(store.writer, store.reader, clock, lambda: store.writer)


@asynccontextmanager
async def on_postgres(dsn: str, **settings: str) -> AsyncIterator[Engine]:
    """The PostgreSQL engine on a database that has the schema; `settings` are the server's, for these connections."""
    clock = Clock()
    pool = await asyncpg.create_pool(dsn, min_size=1, max_size=6, init=codecs.register, server_settings=SETTINGS | settings)
    try:
        yield Engine(writer.Writer(pool), reader.Reader(pool, clock=clock), clock, lambda: writer.Writer(pool), pool)
    finally:
        await pool.close()
