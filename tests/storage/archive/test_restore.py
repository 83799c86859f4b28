"""A day that comes back: beside writers, after a kill, with rows that strayed, and runs with all that was learned of them."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from datetime import timedelta

import pytest

from tests.storage.archive import history
from tests.storage.archive.history import NOW, OLD, SITES, Folder, archive, archiver, everything, told
from tests.storage.contract.builders import DAY, HOUR, ended, resource, span, trace_id
from wafermonitor.runs.records import Batch
from wafermonitor.storage.archive.archiver import Archiver
from wafermonitor.storage.archive.protocol import Signal, day_of
from wafermonitor.storage.protocol import RunQuery
from wafermonitor.storage.timescale import rollups
from wafermonitor.storage.timescale.days import Days
from wafermonitor.storage.timescale.reader import Reader
from wafermonitor.storage.timescale.writer import Writer

pytestmark = pytest.mark.postgres
on_partitions = pytest.mark.skipif(
    os.environ.get("WAFER_TEST_STORE", "plain") != "plain",
    reason="runs where WAFER_TEST_STORE names no hypertables: they have no partition to attach, rows go into the chunk",
)
FIRST = day_of(OLD[0])
PART = f"{FIRST:%Y%m%d}"
UNTIL = day_of(NOW) + timedelta(days=3)
LATER = NOW + 800 * DAY
BY_DAY = (Signal.SPANS, Signal.LOGS, Signal.METRICS)


@pytest.fixture
async def filled(pool):
    await history.fill(pool)
    return pool


def steps_of(days, folder):
    return Archiver(days, Folder(folder), history.settings(folder), NOW)


async def exact(pool, folder, batches):
    found, wanted = await everything(pool, Folder(folder)), told(batches)
    for signal in Signal:
        assert len(found[signal]) == len(wanted[signal]), signal
        assert set(found[signal]) == wanted[signal], signal


async def indexes(pool, table):
    rows = await pool.fetch(
        "SELECT indexrelid FROM pg_index WHERE indrelid = to_regclass($1) AND indisvalid ORDER BY 1", f"wafer_data.{table}"
    )
    return [row[0] for row in rows]


async def left(pool):
    rows = await pool.fetch("SELECT relname FROM pg_class WHERE relname LIKE 'restored%' AND relkind = 'r'")
    return [row["relname"] for row in rows]


@on_partitions
async def test_nothing_is_built_under_the_locks_of_the_end_and_no_writer_waits(filled, folder):
    await archive(filled, folder)
    copied = asyncio.Event()
    go_on = asyncio.Event()

    class Paused(Days):
        """Everything is copied, nothing is attached."""

        async def _finish_restore(self, *given):
            copied.set()
            await go_on.wait()
            await super()._finish_restore(*given)

    steps = steps_of(Paused(filled), folder)
    restoring = asyncio.create_task(steps.restore(Signal.SPANS, FIRST, UNTIL))
    await copied.wait()
    ready = await indexes(filled, "restored_span")
    assert len(ready) == len(await indexes(filled, "span"))
    async with filled.acquire() as writer:
        await writer.execute("CREATE TEMPORARY TABLE now_span AS SELECT * FROM wafer_data.restored_span LIMIT 1")
        await writer.execute("UPDATE now_span SET start_time = now()")
        transaction = writer.transaction()
        await transaction.start()  # it holds what a writer holds in the middle of its own
        await writer.execute("INSERT INTO wafer_data.span SELECT * FROM now_span")
        go_on.set()
        assert await asyncio.wait_for(restoring, 30) == 2 * history.ROWS
        await transaction.rollback()
    assert await indexes(filled, f"span_{PART}") == ready
    assert await filled.fetchval("SELECT count(*) FROM pg_constraint WHERE conname = 'restored_bounds'") == 0
    await exact(filled, folder, history.history())


@on_partitions
async def test_a_long_reader_makes_it_wait_and_try_again_and_nobody_wait_behind_it(filled, folder):
    await archive(filled, folder)
    tries = []

    class Counted(Days):
        """The reader ends after the second try."""

        async def _finish_restore(self, *given):
            tries.append(given)
            if len(tries) == 3:
                await reading.rollback()
            await super()._finish_restore(*given)

    steps = steps_of(Counted(filled), folder)
    async with filled.acquire() as reader:
        reading = reader.transaction()
        await reading.start()
        await reader.fetch("SELECT count(*) FROM wafer_data.span")
        assert await steps.restore(Signal.SPANS, FIRST, UNTIL) == 2 * history.ROWS
    assert len(tries) == 3


@pytest.mark.parametrize("signal", list(Signal))
async def test_a_restore_that_was_killed_is_done_again(filled, folder, signal):
    now_ns = LATER if signal is Signal.RUNS else NOW
    await archive(filled, folder, now_ns, hot_hours=72)

    class Killed(Days):
        """Some rows are there when the process ends."""

        async def _finish_restore(self, *given):
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await steps_of(Killed(filled), folder).restore(signal, FIRST, UNTIL)
    await exact(filled, folder, history.history())
    steps = archiver(filled, folder, now_ns)
    assert await steps.restore(signal, FIRST, UNTIL) >= 2 * history.ROWS
    await exact(filled, folder, history.history())
    assert await left(filled) == []
    # Again, though the day is here: nothing is doubled.
    await steps.restore(signal, FIRST, UNTIL)
    await exact(filled, folder, history.history())


async def test_what_a_killed_restore_left_goes_with_the_next_round(filled, folder):
    await archive(filled, folder)
    await filled.execute("SELECT wafer_data.prepare_restore('span', $1::date)", FIRST)
    assert await left(filled) == ["restored_span"]
    await filled.execute("ALTER FUNCTION wafer_data.forget_restore() SET lock_timeout = '100ms'")
    await Writer(filled).write([Batch(spans=[span(9_001, start_ns=OLD[0] + HOUR)])])
    async with filled.acquire() as backup, backup.transaction():
        await backup.fetch("SELECT FROM wafer_data.restored_span")
        done = await archive(filled, folder)
    assert [failure.partition(":")[0] for failure in done.failed] == ["what a killed restore left"]
    assert done.late == 1
    assert (await archive(filled, folder)).failed == ()
    assert await left(filled) == []


async def test_rows_of_the_day_that_strayed_come_with_it(filled, folder):
    """To the DEFAULT partition, or to a new chunk: where whoever has not heard of the fence puts them."""
    await archive(filled, folder)
    stray = span(9_000, start_ns=OLD[0] + HOUR, trace_id=trace_id(0), resource=resource("f1"))
    await Writer(filled).write([Batch(spans=[stray, *history.history()[0].spans[:4]])])
    await filled.execute("WITH m AS (DELETE FROM wafer_data.span_late RETURNING *) INSERT INTO wafer_data.span SELECT * FROM m")
    await archiver(filled, folder).restore(Signal.SPANS, FIRST, UNTIL)
    await exact(filled, folder, [*history.history(), Batch(spans=[stray])])
    if os.environ.get("WAFER_TEST_STORE", "plain") == "plain":
        assert await filled.fetchval("SELECT count(*) FROM wafer_data.span_default") == 0


async def test_runs_come_back_by_the_month_with_what_came_since_and_no_rollup_counts_them_again(filled, folder):
    reader = Reader(filled)
    await rollups.run_once(filled)
    counted = "SELECT bucket, site_id, job, dimension, value, (j.*)::text FROM wafer_data.job_hourly j ORDER BY 1, 2, 3, 4, 5"
    before = (await filled.fetch(counted), (await reader.runs(RunQuery(limit=1000))).items)
    assert len(before[0]) > 2
    done = await archive(filled, folder, LATER, hot_hours=72)
    assert any(name.startswith("runs") for name in done.dropped)
    assert (await reader.runs(RunQuery())).items == []
    token = (await reader.changes(None)).token
    known = history.history()[0].runs[3]
    later = dataclasses.replace(known, lot_ids=None, cpu_s=3.5)
    fresh = ended(70_000, site=SITES[0], start_ns=OLD[0] + HOUR, end_ns=OLD[0] + 2 * HOUR)
    await Writer(filled).write([Batch(runs=[later, fresh])])

    steps = archiver(filled, folder, LATER)
    months = sorted({day_of(at).replace(day=1) for at in OLD})
    assert (
        sum([await steps.restore(Signal.RUNS, month, day_of(LATER) + timedelta(days=3)) for month in months])
        == 4 * history.ROWS
    )
    found = {one.run.key: one.run for one in (await reader.runs(RunQuery(limit=1000))).items}
    assert found.pop(fresh.key).job == fresh.job
    assert (found[known.key].cpu_s, found[known.key].lot_ids) == (3.5, known.lot_ids)
    wanted = {one.run.key: one.run for one in before[1]}
    assert {key: run for key, run in found.items() if key != known.key} == {k: r for k, r in wanted.items() if k != known.key}
    # Only what was written is a change, and rollups stand as they stood.
    assert {one.run.key for one in (await reader.changes(token)).runs} == {known.key, fresh.key}
    await rollups.run_once(filled)
    assert await filled.fetch(counted) == before[0]
    # Kept until then, and gone with what was learned meanwhile.
    assert not any(name.startswith("runs") for name in (await archive(filled, folder, LATER, hot_hours=72)).dropped)
    gone = await archive(filled, folder, LATER + 3 * DAY, hot_hours=72)
    assert any(name.startswith("runs") for name in gone.dropped), gone
    assert (await reader.runs(RunQuery())).items == []
    again = {run.key: run for run in (await everything(filled, Folder(folder)))[Signal.RUNS]}
    assert again[known.key].cpu_s == 3.5
    await rollups.run_once(filled)
    assert await filled.fetch(counted) == before[0]
