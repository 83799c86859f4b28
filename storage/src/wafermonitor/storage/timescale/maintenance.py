"""What the store needs done again and again: partitions ahead of the rows, no ghosts, lost runs counted as ended.

In: an opened store. Out: the same store, in order; what was done is logged. Called by: the receiver, `wafer storage serve` and
`wafer storage sweep`. Any number of processes may call; an advisory lock lets one at a time do the work.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

import asyncpg

from wafermonitor.storage.config import ARRIVALS_S
from wafermonitor.storage.errors import StorageError
from wafermonitor.storage.protocol import Storage
from wafermonitor.storage.timescale import rollups, store
from wafermonitor.storage.timescale.codecs import Connection
from wafermonitor.storage.timescale.failures import border
from wafermonitor.storage.timescale.migrate import DAYS_AHEAD
from wafermonitor.storage.timescale.statements import statement

LOCK = 0x77616665_72000002
"""The advisory lock of maintenance: "wafer", 2."""
_LOCK_TIMEOUT = "5s"
"""A partition is attached under a lock; rather than hold up the writers behind a long reader, the next round tries again."""
_log = logging.getLogger(__name__)


class Round(NamedTuple):
    """What one round did: partitions made, ghosts removed, runs whose `inferred` changed, DEFAULT partitions with rows."""

    partitions: tuple[str, ...]
    ghosts: int
    inferred: int
    strays: tuple[str, ...]


async def keep(storage: Storage, stop: asyncio.Event, *, clock: Callable[[], int] = time.time_ns) -> None:
    """A round every `maintain_interval_s` until `stop` is set, the rollups beside. After trouble the next round tries again.

    A store without partitions (memory) needs nothing done. `clock` gives now in ns.
    """
    if not isinstance(storage, store.Storage):
        await stop.wait()
        return
    config = storage.config
    rolling = asyncio.create_task(rollups.keep(storage.pool, stop, interval_s=config.rollup_interval_s), name="rollups")
    try:
        await _rounds(storage, stop, clock)
    finally:
        if not stop.is_set():
            rolling.cancel()
        await asyncio.gather(rolling, return_exceptions=True)


async def _rounds(storage: store.Storage, stop: asyncio.Event, clock: Callable[[], int]) -> None:
    config = storage.config
    while not stop.is_set():
        try:
            await run_once(
                storage.pool, hot_days=config.hot_days, now_ns=clock(), remember_arrivals_s=config.remember_arrivals_s
            )
        except StorageError as error:
            _log.warning("maintenance of the store: %s", error)
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), config.maintain_interval_s)


async def run_once(pool: asyncpg.Pool, *, hot_days: int, now_ns: int, remember_arrivals_s: float = ARRIVALS_S) -> Round | None:
    """One round; None when another process is at it. Raises StorageUnavailable."""
    today = datetime.fromtimestamp(now_ns // 1_000_000_000, UTC).date()
    with border("maintain the store"):
        async with pool.acquire() as connection, _leading(connection) as leading:
            if not leading:
                return None
            made = await _partitions(connection, today - timedelta(days=hot_days), today + timedelta(days=DAYS_AHEAD))
            ghosts = await connection.fetchval("SELECT wafer_data.sweep_ghosts()")
            inferred = await connection.fetchval("SELECT wafer_data.set_inferred($1)", now_ns)
            await connection.execute(statement("forget_arrivals"), now_ns - int(remember_arrivals_s * 1e9))
            strays = tuple(row[0] for row in await connection.fetch("SELECT wafer_data.stray_partitions()"))
    done = Round(made, ghosts, inferred, strays)
    if made or ghosts or inferred:
        _log.info(
            "maintenance: %d partitions made, %d ghosts removed, inferred changed on %d runs", len(made), ghosts, inferred
        )
    if strays:
        _log.error("rows are outside every prepared day, in %s", ", ".join(strays))
    return done


@asynccontextmanager
async def _leading(connection: Connection) -> AsyncIterator[bool]:
    """Whether this connection has the lock. The server lets go of it when the connection is lost."""
    leading: bool = await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK)
    try:
        yield leading
    finally:
        if leading and not connection.is_closed():
            await connection.execute("SELECT pg_advisory_unlock($1)", LOCK)


async def _partitions(connection: Connection, oldest: date, newest: date) -> tuple[str, ...]:
    async with connection.transaction():
        await connection.execute("SELECT set_config('lock_timeout', $1, true)", _LOCK_TIMEOUT)
        rows = await connection.fetch("SELECT wafer_data.keep_partitions($1, $2, $3)", oldest, newest, oldest)
    return tuple(row[0] for row in rows)
