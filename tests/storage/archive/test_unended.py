"""Runs that never tell their end leave with their month, and what comes of them later is merged with what the archive has."""

from __future__ import annotations

import dataclasses
from collections import Counter
from datetime import UTC, datetime

import pytest

from tests.storage.archive import history
from tests.storage.archive.history import Folder, archive, archiver
from tests.storage.contract.builders import DAY, HOUR, NOW, SECOND, beat, ended, run, span_id, trace_id
from tests.storage.engines import Clock
from wafermonitor.runs.records import Batch
from wafermonitor.runs.state import State
from wafermonitor.storage.archive.archiver import run_once
from wafermonitor.storage.archive.merged import MergedReader
from wafermonitor.storage.archive.protocol import Signal, day_of
from wafermonitor.storage.archive.reader import Files
from wafermonitor.storage.protocol import RunQuery
from wafermonitor.storage.timescale import maintenance
from wafermonitor.storage.timescale.days import Days
from wafermonitor.storage.timescale.reader import Reader
from wafermonitor.storage.timescale.writer import Writer

pytestmark = pytest.mark.postgres
_TODAY = datetime.fromtimestamp(NOW // SECOND, UTC)
MONTH = int(datetime(_TODAY.year - 1, 3, 1, tzinfo=UTC).timestamp()) * SECOND
"""A month of last year: its first midnight, ns."""
KEPT = {"hot_run_days": 60}


def old(number, sign_ns=MONTH + 5 * DAY, **given):
    """Began on the fifth of the month, and was heard of then for the last time."""
    given = {"start_ns": MONTH + 5 * DAY - HOUR + number, "last_sign_ns": sign_ns, "received_ns": sign_ns} | given
    return run(number, **given)


LOST = old(1, heartbeat_interval_s=30.0)
SCRIPT = old(2)
ENDED = ended(3, start_ns=MONTH + 5 * DAY, end_ns=MONTH + 5 * DAY + HOUR, last_sign_ns=MONTH + 5 * DAY + HOUR)
BEATING = old(4, process_key=b"p" * 16)
HEARD = old(5, sign_ns=NOW - DAY)
YOUNG = run(6)
ALONE = old(7, start_ns=MONTH - 20 * DAY, sign_ns=MONTH - 19 * DAY)
"""The only run of the month before."""
ALL = (LOST, SCRIPT, ENDED, BEATING, HEARD, YOUNG, ALONE)
STAY = {BEATING.key, HEARD.key, YOUNG.key}


@pytest.fixture
async def filled(pool):
    """All of them, judged."""
    months = "SELECT wafer_data.keep_partitions($1::date, $1::date, $2::date)"
    await pool.execute(months, day_of(NOW), day_of(MONTH - 20 * DAY))
    await Writer(pool).write([Batch(runs=list(ALL), processes=[beat(NOW - DAY, key=b"p" * 16)])])
    async with pool.acquire() as connection:
        await maintenance.runs(connection, NOW)
    return pool


async def in_store(pool):
    """Keys of all runs in the tables."""
    text = "SELECT s.name, t.trace_id, int8send(t.span_id) AS span FROM wafer_data.{} t JOIN wafer_data.site s USING (site_id)"
    rows = [row for table in ("run", "run_open") for row in await pool.fetch(text.format(table))]
    return Counter((row["name"], row["trace_id"], row["span"]) for row in rows)


async def held(pool, folder):
    """Every key in store or archive, as often as it is there."""
    archived = (await history.in_archive(pool, Folder(folder)))[Signal.RUNS]
    return await in_store(pool) + Counter(one.key for one in archived)


def merged(pool, folder):
    return MergedReader(Reader(pool, clock=Clock()), Days(pool), Files(Folder(folder)))


async def shown(reader, **given):
    """What pages of two runs show, in their order."""
    found, cursor = [], None
    while True:
        page = await reader.runs(RunQuery(limit=2, cursor=cursor, **given))
        found += page.items
        if page.cursor is None:
            return found
        cursor = page.cursor


async def once(pool, folder):
    """Every run is in the store or in the archive, once; the reader shows each once, in either order."""
    keys = {one.key for one in ALL}
    assert await held(pool, folder) == Counter(keys)
    await shown_once(pool, folder)


async def shown_once(pool, folder):
    keys = {one.key for one in ALL}
    for order in ("newest", "failing"):
        assert Counter(one.run.key for one in await shown(merged(pool, folder), order=order)) == Counter(keys)


async def test_they_leave_with_their_month_when_they_and_their_process_are_silent(filled, folder):
    await once(filled, folder)
    kept = await archive(filled, folder, NOW, hot_run_days=3650)
    assert kept.failed == ()
    assert await in_store(filled) == Counter(one.key for one in ALL)
    done = await archive(filled, folder, NOW, **KEPT)
    assert done.failed == ()
    assert set(await in_store(filled)) == STAY
    await once(filled, folder)
    reader = merged(filled, folder)
    for one in (LOST, SCRIPT):
        stored = await reader.run(one.trace_id, one.span_id)
        assert (stored.state, stored.run.inferred, stored.run.result) == (State.ENDED, True, None)
        assert stored.run == dataclasses.replace(one, inferred=True)
        assert [found.run.key for found in await reader.tree(one.trace_id)] == [one.key]
    assert {one.run.key for one in await shown(reader, inferred=True)} >= {LOST.key, SCRIPT.key, ALONE.key}
    assert LOST.key not in {one.run.key for one in await shown(reader, state=(State.LOST, State.RUNNING))}
    # Nothing is left to do, and no month stands empty.
    again = await archive(filled, folder, NOW, **KEPT)
    assert (again.archived, again.dropped, again.late, again.failed) == ((), (), 0, ())
    months = {row[0] for row in await filled.fetch("SELECT wafer_data.stored_months()")}
    assert min(months) > day_of(NOW - 100 * DAY)


@pytest.mark.parametrize("ends", [False, True])
async def test_a_sign_that_comes_after_it_left_is_merged_with_what_the_archive_has(filled, folder, ends):
    await archive(filled, folder, NOW, **KEPT)
    sign = dataclasses.replace(
        run(1, start_ns=LOST.start_ns, job=None, attributes=None, cpu_s=3.5, heartbeat_interval_s=30.0), service=None
    )
    if ends:
        sign = dataclasses.replace(sign, end_rank=2, end_ns=NOW, result="success")
    await Writer(filled).write([Batch(runs=[sign])])
    await shown_once(filled, folder)
    stored = await merged(filled, folder).run(trace_id(1), span_id(1))
    assert (stored.run.job, stored.run.cpu_s, stored.run.inferred) == (LOST.job, 3.5, False)
    assert (stored.state, stored.run.result) == ((State.ENDED, "success") if ends else (State.RUNNING, None))
    # Rounds leave it where it is while it lives; when it has ended, or is silent again, it leaves again with all that is known.
    now_ns = NOW
    if not ends:
        assert (await archive(filled, folder, NOW + DAY, **KEPT)).late == 0
        await shown_once(filled, folder)
        now_ns = NOW + 120 * DAY
    done = await archive(filled, folder, now_ns, **KEPT)
    assert (done.failed, LOST.key in await in_store(filled)) == ((), False)
    assert set(await held(filled, folder)) == {one.key for one in ALL}
    await shown_once(filled, folder)
    left = (await merged(filled, folder).run(trace_id(1), span_id(1))).run
    assert (left.job, left.cpu_s, left.ended, left.inferred) == (LOST.job, 3.5, ends, not ends)
    assert (await archive(filled, folder, now_ns, **KEPT)).late == 0


async def test_a_month_that_comes_back_brings_them_back_open(filled, folder):
    await archive(filled, folder, NOW, **KEPT)
    steps = archiver(filled, folder, NOW)
    until = day_of(NOW + 10 * DAY)
    restored = await steps.restore(Signal.RUNS, day_of(MONTH), until)
    assert restored == 3
    await once(filled, folder)
    assert await filled.fetchval("SELECT count(*) FROM wafer_data.run WHERE end_rank = 0") == 0
    assert (await archive(filled, folder, NOW, **KEPT)).late == 0
    assert {LOST.key, SCRIPT.key, ENDED.key} <= set(await in_store(filled))
    await archive(filled, folder, NOW + 10 * DAY, **KEPT)
    assert set(await in_store(filled)) == STAY
    await once(filled, folder)


async def test_one_that_gives_a_sign_while_it_is_archived_stays(filled, folder):
    class Interrupted(Days):
        """A sign of the script comes after its file was written, before the store lets go of it."""

        async def record(self, signal, entries, **given):
            if any(Signal.RUNS is signal and late.record.key == SCRIPT.key for late in given.get("late", ())):
                await Writer(filled).write([Batch(runs=[dataclasses.replace(SCRIPT, last_sign_ns=NOW, received_ns=NOW)])])
            return await super().record(signal, entries, **given)

    done = await run_once(Interrupted(filled), Folder(folder), history.settings(folder, **KEPT), now_ns=NOW)
    assert done.failed == ()
    assert set(await in_store(filled)) == {*STAY, SCRIPT.key}
    await shown_once(filled, folder)
    stored = await merged(filled, folder).run(SCRIPT.trace_id, SCRIPT.span_id)
    assert (stored.state, stored.run.last_sign_ns, stored.run.inferred) == (State.RUNNING, NOW, False)


async def test_without_an_archive_they_go_with_the_months_that_are_dropped(filled):
    async with filled.acquire() as connection:
        dropped = await maintenance.drop_unarchived(connection, 30, 60, NOW)
    assert f"run {day_of(MONTH):%Y-%m}" in dropped
    assert set(await in_store(filled)) == STAY
