"""Opened stores for tests: both ends of an engine, and the clock its reader goes by."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from tests.storage import blocks
from tests.storage.contract.builders import NOW
from wafermonitor.runs.records import Batch
from wafermonitor.storage import memory
from wafermonitor.storage.protocol import Part, Reader, Writer
from wafermonitor.storage.timescale import codecs, reader, watch, writer
from wafermonitor.storage.timescale.session import SETTINGS
from wafermonitor.storage.watch import Watch


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
    watch: Watch | None = None


def in_memory() -> Engine:
    """The memory engine."""
    clock = Clock()
    store = memory.Storage(clock=clock)
    return Engine(store.writer, store.reader, clock, lambda: store.writer, watch=store.watch)


class Copying:
    """A writer that is given every group as one part of a block."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self.row_format = writer.row_format
        self.close = writer.close
        self.first_arrivals = writer.first_arrivals
        self.forget_dead_letter = writer.forget_dead_letter
        self.mark_dead_letter = writer.mark_dead_letter

    async def write(self, batches: Sequence[Batch | Part]) -> None:
        """The same rows, in the database's words."""
        await self._writer.write([blocks.part(*batches)])


def copying(engine: Engine) -> Engine:
    """The same engine, whose writers are given rows instead of records."""
    return dataclasses.replace(engine, writer=Copying(engine.writer), another_writer=lambda: Copying(engine.another_writer()))


@asynccontextmanager
async def on_postgres(dsn: str, **settings: str) -> AsyncIterator[Engine]:
    """The PostgreSQL engine on a database that has the schema; `settings` are the server's, for these connections."""
    clock = Clock()
    pool = await asyncpg.create_pool(dsn, min_size=1, max_size=6, init=codecs.register, server_settings=SETTINGS | settings)
    try:
        yield Engine(
            writer.Writer(pool),
            reader.Reader(pool, clock=clock),
            clock,
            lambda: writer.Writer(pool),
            pool,
            watch.Watch(pool, clock=clock),
        )
    finally:
        await pool.close()


@asynccontextmanager
async def on_clickhouse(dsn: str) -> AsyncIterator[Engine]:
    """The ClickHouse engine on a database of that name, made anew and dropped in the end."""
    # The driver is imported where it is used: without it the other engines are tested all the same.
    from wafermonitor.storage.clickhouse import reader, schema, writer
    from wafermonitor.storage.clickhouse.client import Client

    clock = Clock()
    client = await Client.open(dsn, pool_size=4, timeout_s=60)
    try:
        await schema.upgrade(client, schema.Keep(90, 730, 3600))
        yield Engine(writer.Writer(client), reader.Reader(client, clock=clock), clock, lambda: writer.Writer(client))
        await client.command("drop the test's database", f"DROP DATABASE {client.database} SYNC", in_database=False)
    finally:
        await client.close()
