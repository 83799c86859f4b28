"""Plain tables become hypertables while writers write and readers read, after TimescaleDB was installed.

In: a connection of somebody who may act as `wafer_owner`. Out: hypertables with all rows. Called by: `wafer storage convert`.

A table changes its kind in a moment, under a lock, without its rows (a writer that meets it may have to try again). Its old
partitions stay readable beside it, as late rows are, and are emptied into it, some pages in each transaction, the newest day
first. So it may be killed at any point and goes on where it stopped. What a redelivery stores twice meanwhile is read once, and
is one row again when its day has been moved.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import date
from functools import partial
from typing import NamedTuple, TypeVar

import asyncpg

from wafermonitor.storage.errors import StorageRejected, StorageUnavailable
from wafermonitor.storage.timescale import migrate, tier
from wafermonitor.storage.timescale.failures import TRANSIENT
from wafermonitor.storage.timescale.statements import statement

T = TypeVar("T")
LOCK = 0x77616665_72000007
"""The advisory lock of conversions: "wafer", 7."""
ARCHIVER_LOCK = 0x77616665_72000010
"""A day is not archived, and not dropped, while its rows are in two places."""
BATCH_PAGES = 1000
"""Pages of 8 KiB whose rows are moved in one transaction: about 9,000 spans, a few tenths of a second."""
_LOCK_TIMEOUT = "2s"
"""Rather than hold up writers behind a long reader, the lock is asked for again."""
_ATTEMPTS = 60
_PAUSE_S = 1.0
_BLOCKED = (asyncpg.LockNotAvailableError, *TRANSIENT)


class Part(NamedTuple):
    """One day of one table that is still to be moved. `rows` is the planner's estimate."""

    table: str
    day: date
    rows: int
    bytes: int


class Plan(NamedTuple):
    """Tables that are native, and days whose rows are to be moved, in the order in which that is done."""

    tables: tuple[str, ...]
    parts: tuple[Part, ...]


class Progress(NamedTuple):
    """What was done last: `moved` rows of `part`, `total` in this call."""

    part: Part
    moved: int
    total: int


class Done(NamedTuple):
    """What was converted: tables that changed their kind, days and rows that were moved."""

    tables: tuple[str, ...]
    days: int
    rows: int


async def plan(connection: asyncpg.Connection) -> Plan:
    """What `convert` would do. StorageRejected where it cannot, with what is to be done first."""
    await _check(connection)
    return Plan(await tier.native(connection), await _parts(connection))


async def convert(
    connection: asyncpg.Connection, report: Callable[[Progress], None], *, batch_pages: int = BATCH_PAGES
) -> Done:
    """Do all of it, or what is left of it.

    StorageRejected: another process is at it, or something is to be done first. StorageUnavailable: a lock was not to be had.
    """
    async with _alone(connection):
        wanted = await plan(connection)
        if wanted.tables:
            await _insist(partial(migrate.make_hypertables, connection, _LOCK_TIMEOUT))
        await connection.execute("SET ROLE wafer_owner")
        parts = await _parts(connection)
        total = 0
        for part in parts:
            async for moved in _move(connection, part, batch_pages):
                total += moved
                report(Progress(part, moved, total))
        for table in dict.fromkeys(part.table for part in parts):
            await connection.execute(f"ANALYZE wafer_data.{table}")
        await connection.execute("RESET ROLE")
    return Done(wanted.tables, len(parts), total)


async def _check(connection: asyncpg.Connection) -> None:
    await migrate.check(connection)
    if await tier.detect(connection) is tier.Tier.PLAIN:
        found = await tier.facts(connection)
        if found.available is None:
            first = "the server has no TimescaleDB: install its package for this PostgreSQL"
        elif not found.preloaded:
            first = "TimescaleDB is installed but not loaded: add it to shared_preload_libraries and start the server again"
        else:
            first = f"TimescaleDB {found.available} is ready: run CREATE EXTENSION timescaledb in this database as a superuser"
        raise StorageRejected(f"there is nothing to convert to: {first}")
    foreign = await connection.fetch(statement("foreign_dependants"))
    if foreign:
        names = ", ".join(row["name"] for row in foreign)
        raise StorageRejected(f"{names}: these need the tables that are made anew; drop them, convert, and make them again")


async def _parts(connection: asyncpg.Connection) -> tuple[Part, ...]:
    rows = await connection.fetch(statement("unmoved_days"))
    return tuple(Part(row["name"], row["day"], row["rows"], row["bytes"]) for row in rows)


async def _move(connection: asyncpg.Connection, part: Part, batch_pages: int) -> AsyncIterator[int]:
    """Empty one partition, then drop it. How many rows each transaction moved."""
    name = f"{part.table}_{part.day:%Y%m%d}"
    while True:
        for first in range(0, await connection.fetchval(statement("pages_of"), name), batch_pages):
            yield await _insist(partial(connection.fetchval, statement("move_rows"), part.table, name, first, batch_pages))
        if await _insist(partial(_drop_empty, connection, name)):
            return


async def _drop_empty(connection: asyncpg.Connection, name: str) -> bool:
    async with connection.transaction():
        await connection.execute("SELECT set_config('lock_timeout', $1, true)", _LOCK_TIMEOUT)
        return await connection.fetchval("SELECT wafer_data.drop_empty($1)", name) is True


async def _insist(attempt: Callable[[], Awaitable[T]]) -> T:
    for _ in range(_ATTEMPTS):
        try:
            return await attempt()
        except _BLOCKED:
            await asyncio.sleep(_PAUSE_S)
    raise StorageUnavailable("a table is in use without a break: what was converted stays so, and the next call goes on")


@asynccontextmanager
async def _alone(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """The server lets go of the locks when the connection is lost."""
    for lock, who in ((LOCK, "another process is converting this database"), (ARCHIVER_LOCK, "the archiver is at work")):
        if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", lock):
            raise StorageRejected(f"{who}: try again when it has ended")
    yield
