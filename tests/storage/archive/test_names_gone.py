"""Days that left the store, and then their names: what comes again, or comes back, is there once and has its names."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from tests.storage.archive import history
from tests.storage.archive.history import NOW, OLD, Folder, archive, everything, told
from wafermonitor.storage.archive.archiver import Archiver
from wafermonitor.storage.archive.protocol import Signal, day_of
from wafermonitor.storage.timescale import maintenance
from wafermonitor.storage.timescale.days import Days
from wafermonitor.storage.timescale.writer import Writer

pytestmark = pytest.mark.postgres
NAMES = {"metric_series": 2, "resource": 2, "scope": 1}


async def counts(pool):
    return {table: await pool.fetchval(f"SELECT count(*) FROM wafer_data.{table}") for table in NAMES}


async def forget(pool):
    for table in NAMES:
        await pool.execute(f"UPDATE wafer_data.{table} SET seen = $1", date(2020, 1, 1))
    async with pool.acquire() as connection:
        return await maintenance.forget_names(connection, NOW, 60.0)


async def exact(pool, folder):
    found, wanted = await everything(pool, Folder(folder)), told(history.history())
    for signal in Signal:
        assert len(found[signal]) == len(wanted[signal]), signal
        assert set(found[signal]) == wanted[signal], signal


async def test_rows_that_come_again_after_their_names_went_are_there_once(pool, folder):
    await history.fill(pool)
    assert await counts(pool) == NAMES
    await archive(pool, folder)
    gone = await forget(pool)
    assert (gone.series, gone.resources, gone.scopes) == (2, 2, 1)
    await exact(pool, folder)
    await Writer(pool).write(history.history())
    assert await counts(pool) == NAMES
    await archive(pool, folder)
    assert (
        await pool.fetchval(
            "SELECT (SELECT count(*) FROM wafer_data.metric_late) + (SELECT count(*) FROM wafer_data.span_late)"
        )
        == 0
    )
    await exact(pool, folder)


async def test_a_day_that_comes_back_brings_its_names_and_keeps_them(pool, folder):
    await history.fill(pool)
    await archive(pool, folder)
    await forget(pool)
    assert await counts(pool) == dict.fromkeys(NAMES, 0)
    steps = Archiver(Days(pool), Folder(folder), history.settings(folder), NOW)
    for signal in (Signal.SPANS, Signal.LOGS, Signal.METRICS):
        await steps.restore(signal, day_of(OLD[0]), day_of(NOW) + timedelta(days=3))
    assert await counts(pool) == NAMES
    await exact(pool, folder)
    async with pool.acquire() as connection:
        assert (await maintenance.forget_names(connection, NOW, 60.0))[:3] == (0, 0, 0)
    await exact(pool, folder)
