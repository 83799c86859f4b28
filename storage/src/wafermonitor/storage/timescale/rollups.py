"""Rollups: what changed about ended runs is added to hours, days, weeks and months, a few seconds after it was written.

In: an opened store. Out: the tables job_hourly, job_daily, job_weekly and job_monthly in step with `run`.
Called by: `maintenance`, `wafer maintain`. Any number of processes may call; an advisory lock lets one at a time do the work.

The pass itself is `wafer_data.roll_up()` in sql/idempotent/rollups.sql, which says how it stays exact.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import NamedTuple

import asyncpg

from wafermonitor.storage.errors import StorageError
from wafermonitor.storage.timescale.codecs import Connection
from wafermonitor.storage.timescale.failures import border

LOCK = 0x77616665_72000004
"""The advisory lock of the rollups: "wafer", 4."""
LONGEST_PAUSE_S = 3.0
"""Readers are promised five seconds."""
_REST = 20
"""A pass is followed by a pause of so many times its length, within the two bounds: a busy store is asked less often."""
_WAIT_FOR_LEADER_S = 5.0
_TIMEOUT_S = 3600.0
"""One pass; the first one after a long stop has much to add."""
_log = logging.getLogger(__name__)


class Passed(NamedTuple):
    """What a pass did: versions of runs added or taken away, hours of jobs made anew; whether older hours are still to come."""

    runs: int
    again: int
    building: bool


async def keep(pool: asyncpg.Pool, stop: asyncio.Event, *, interval_s: float) -> None:
    """Pass after pass until `stop` is set, `interval_s` apart at least. Trouble is logged, and the next pass tries again."""
    while not stop.is_set():
        try:
            with border("lead the rollups"):
                async with pool.acquire() as connection:
                    if await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):
                        await _lead(connection, stop, interval_s)
        except StorageError as error:
            _log.warning("rollups: %s", error)
        await _pause(stop, _WAIT_FOR_LEADER_S)


async def run_once(pool: asyncpg.Pool) -> Passed | None:
    """Passes until nothing is left to do, added up; None when another process leads. Raises StorageUnavailable."""
    with border("roll up the runs"):
        async with pool.acquire() as connection:
            if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):
                return None
            try:
                done = await one_pass(connection)
                while done.building:
                    more = await one_pass(connection)
                    done = Passed(done.runs + more.runs, done.again + more.again, more.building)
                return done
            finally:
                if not connection.is_closed():
                    await connection.execute("SELECT pg_advisory_unlock($1)", LOCK)


async def one_pass(connection: Connection) -> Passed:
    """One transaction, whose snapshot is rolled up. The caller leads."""
    async with connection.transaction(isolation="repeatable_read"):
        row = await connection.fetchrow("SELECT runs, again, building FROM wafer_data.roll_up()", timeout=_TIMEOUT_S)
    assert row is not None
    return Passed(row["runs"], row["again"], row["building"])


async def _lead(connection: Connection, stop: asyncio.Event, interval_s: float) -> None:
    try:
        while not stop.is_set():
            begun = time.monotonic()
            done = await one_pass(connection)
            if not done.building:
                took_s = time.monotonic() - begun
                await _pause(stop, max(interval_s, min(took_s * _REST, LONGEST_PAUSE_S)))
    finally:
        if not connection.is_closed():
            await connection.execute("SELECT pg_advisory_unlock($1)", LOCK)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
