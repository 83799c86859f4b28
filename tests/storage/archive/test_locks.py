"""How days and months leave the store beside writers: nobody waits for what takes long, and a day at a time."""

from __future__ import annotations

import asyncio
import dataclasses
from contextlib import asynccontextmanager

import asyncpg
import pytest

from tests.storage.archive import history
from tests.storage.archive.history import NOW, OLD, Folder, archive, everything, told
from tests.storage.contract.builders import DAY
from wafermonitor.runs.records import Batch
from wafermonitor.storage.archive.protocol import Signal, day_of
from wafermonitor.storage.timescale import maintenance
from wafermonitor.storage.timescale.days import Days
from wafermonitor.storage.timescale.writer import Writer

pytestmark = pytest.mark.postgres
MONTH = day_of(OLD[0]).replace(day=1)
MERGING = 8602269349144690691


@pytest.fixture
async def filled(pool):
    await history.fill(pool)
    return pool


@asynccontextmanager
async def holding(pool, statement):
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(statement)
        yield


async def drop(pool, mark):
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL lock_timeout = '100ms'")
        return await connection.fetchval("SELECT wafer_data.drop_archived('run', $1::date, $2)", MONTH, mark)


async def changed(pool):
    known = history.history()[0].runs[0]
    await Writer(pool).write([Batch(runs=[dataclasses.replace(known, cpu_s=99.0)])])


async def test_a_month_of_runs_that_changed_is_told_from_one_that_did_not_before_anybody_is_locked_out(filled):
    mark = await filled.fetchval("SELECT wafer_data.fingerprint('run', $1::date)", MONTH)
    await changed(filled)
    async with holding(filled, f"SELECT pg_advisory_xact_lock({MERGING})"):
        assert await drop(filled, mark) is False
        with pytest.raises(asyncpg.LockNotAvailableError):
            await drop(filled, await filled.fetchval("SELECT wafer_data.fingerprint('run', $1::date)", MONTH))
    assert await drop(filled, await filled.fetchval("SELECT wafer_data.fingerprint('run', $1::date)", MONTH)) is True


async def test_merging_does_not_wait_while_a_month_waits_for_the_rollups(filled):
    mark = await filled.fetchval("SELECT wafer_data.fingerprint('run', $1::date)", MONTH)
    async with holding(filled, "SELECT FROM wafer_data.rollup_state FOR UPDATE"):
        dropping = asyncio.create_task(filled.fetchval("SELECT wafer_data.drop_archived('run', $1::date, $2)", MONTH, mark))
        async with asyncio.timeout(30):
            while not await filled.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                assert not dropping.done()
        assert await filled.fetchval(f"SELECT pg_try_advisory_xact_lock({MERGING})")
    assert await dropping is True


async def test_without_an_archive_each_day_is_dropped_by_itself(filled):
    days = [day_of(midnight) for midnight in OLD]
    async with filled.acquire() as connection:
        async with holding(filled, "SELECT FROM wafer_data.metric_point"):
            with pytest.raises(asyncpg.LockNotAvailableError):
                await maintenance.drop_unarchived(connection, 3, 730, NOW)
        assert await filled.fetchval("SELECT count(*) FROM wafer_data.span") == 0  # done before the one that was locked
        rest = await maintenance.drop_unarchived(connection, 3, 730, NOW)
        assert f"metric_point {days[0]}" in rest
        assert not [one for one in rest if one.startswith("span")]
        months = await maintenance.drop_unarchived(connection, 3, 1, NOW + 800 * DAY)
        assert f"run {MONTH:%Y-%m}" in months
        assert await maintenance.drop_unarchived(connection, 3, 1, NOW + 800 * DAY) == ()


async def test_what_was_archived_before_the_archive_was_switched_off_is_answered_by_it_when_its_day_is_dropped(filled, folder):
    await archive(filled, folder, hot_hours=2000)
    async with filled.acquire() as connection:
        await maintenance.drop_unarchived(connection, 3, 1, NOW + 800 * DAY)
    found, wanted = await everything(filled, Folder(folder)), told(history.history())
    for signal in Signal:
        assert len(found[signal]) == len(wanted[signal]), signal
        assert set(found[signal]) == wanted[signal], signal
    assert all(state.dropped for state in (await Days(filled).archived(Signal.SPANS)).values())


async def test_what_a_killed_round_archived_of_a_day_is_answered_by_the_archive_too(filled, folder):
    with pytest.raises(asyncio.CancelledError):
        await history.killed(filled, folder, "recorded").archive_day(Signal.SPANS, day_of(OLD[0]))
    async with filled.acquire() as connection:
        await maintenance.drop_unarchived(connection, 3, 730, NOW)
    found = (await everything(filled, Folder(folder)))[Signal.SPANS]
    (entry,) = (await Days(filled).manifest()).entries
    assert (len(found), {one.resource.site for one in found}) == (history.ROWS, {entry.place.site})
