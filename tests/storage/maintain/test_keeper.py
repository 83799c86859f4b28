"""When steps are taken, that one failing stops no other, that everything stands in the log, and that one process leads."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import contextmanager

import pytest

from tests.servers import postgres as server
from tests.storage.contract import alerts, builders
from wafermonitor.runs.expectations import ExpectedState
from wafermonitor.runs.records import Batch
from wafermonitor.storage import memory, watch
from wafermonitor.storage.archive.config import Config as ArchiveConfig
from wafermonitor.storage.config import Config as StorageConfig
from wafermonitor.storage.connect import connect
from wafermonitor.storage.errors import StorageUnavailable
from wafermonitor.storage.maintain import keeper
from wafermonitor.storage.maintain.config import Config
from wafermonitor.storage.maintain.keeper import Outcome
from wafermonitor.storage.maintain.outlook import outlook
from wafermonitor.storage.maintain.steps import STEPS, Step
from wafermonitor.storage.timescale import maintenance

pytestmark = pytest.mark.postgres

SHORT = [step for step in STEPS if not step.long]
LONG = [step for step in STEPS if step.long]
NOW, SECOND, DAY = builders.NOW, builders.SECOND, builders.DAY


async def _until(true) -> None:
    while not true():
        await asyncio.sleep(0.01)


async def _log(store) -> list[tuple]:
    rows = await store.pool.fetch("SELECT step, outcome, report, rounds FROM wafer_data.maintenance_log ORDER BY log_id")
    return [tuple(row) for row in rows]


def step(name: str, run, **given) -> Step:
    return Step(name, name, **{"interval_s": 0, "box_s": 60, "run": run} | given)


async def test_every_step_runs_and_a_second_round_finds_nothing_to_do(store):
    first = await keeper.run_round(store, SHORT, now_ns=NOW, force=True)
    assert [done.step for done in first] == [step.name for step in SHORT]
    assert {done.outcome for done in first} <= {"done", "nothing"}
    again = await keeper.run_round(store, SHORT, now_ns=NOW, force=True)
    assert {done.outcome for done in again} == {"nothing"}
    assert {done.outcome for done in await keeper.run_round(store, LONG, now_ns=NOW, force=True)} == {"nothing"}


async def test_only_what_is_due_is_done(store):
    now_ns = time.time_ns()  # the log has the time at which a step began
    await keeper.run_round(store, SHORT, now_ns=now_ns)
    soon = await keeper.run_round(store, SHORT, now_ns=now_ns + 60 * SECOND)
    assert [done.step for done in soon] == ["partitions", "runs", "rollups", "leftovers"]
    later = await keeper.run_round(store, SHORT, now_ns=now_ns + DAY + 60 * SECOND)
    assert [done.step for done in later] == [step.name for step in SHORT]


async def test_a_step_that_fails_stops_no_other_and_is_tried_again_later(store, caplog):
    async def fail(_work) -> str:
        raise StorageUnavailable("the disk is full")

    async def break_(_work) -> str:
        raise KeyError("nobody expected this")

    async def fine(_work) -> str:
        return "3 things done"

    now_ns = time.time_ns()
    steps = [step("a", fail, interval_s=3600), step("b", break_, interval_s=3600), step("c", fine, interval_s=3600)]
    assert await keeper.run_round(store, steps, now_ns=now_ns) == [
        Outcome("a", "failed", "the disk is full"),
        Outcome("b", "failed", "KeyError"),
        Outcome("c", "done", "3 things done"),
    ]
    assert "nobody expected this" in caplog.text
    assert await keeper.run_round(store, steps, now_ns=now_ns + 60 * SECOND) == []
    again = await keeper.run_round(store, steps, now_ns=now_ns + 400 * SECOND)
    assert [done.step for done in again] == ["a", "b"]
    assert await _log(store) == [
        ("a", "failed", "the disk is full", 2),
        ("b", "failed", "KeyError", 2),
        ("c", "done", "3 things done", 1),
    ]


async def test_a_step_that_takes_too_long_is_cut_off(store):
    async def slow(work) -> str:
        await work.connection.execute("SELECT pg_sleep(60)")
        return "slept"

    (done,) = await keeper.run_round(store, [step("slow", slow, box_s=0.05)], now_ns=NOW)
    assert done == Outcome("slow", "failed", "not done within 0.05 s; it goes on in the next round")
    assert [row[0] for row in await _log(store)] == ["slow"]


async def test_a_step_that_waits_for_a_lock_gives_up_and_the_others_are_done(store):
    """As when somebody left a session open that has locked a table."""
    by_name = {step.name: step for step in STEPS}
    steps = [by_name["leftovers"]._replace(box_s=0.2), by_name["runs"]]
    async with store.pool.acquire() as other, other.transaction():
        await other.execute("LOCK TABLE wafer_data.dead_letter IN ACCESS EXCLUSIVE MODE")
        stuck, fine = await keeper.run_round(store, steps, now_ns=NOW)
        assert stuck == Outcome("leftovers", "failed", "not done within 0.2 s; it goes on in the next round")
        assert fine.outcome == "nothing"
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'wafer_data.dead_letter'::regclass"
        ours = "database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        assert await other.fetchval(f"{waiting} AND {ours}") == 0
    assert [row[:2] for row in await _log(store)] == [("leftovers", "failed"), ("runs", "nothing")]
    (again,) = await keeper.run_round(store, [by_name["leftovers"]], now_ns=NOW, force=True)
    assert again.outcome == "nothing"


async def test_a_month_that_cannot_be_made_for_a_lock_holds_up_no_other_step(store):
    async with store.pool.acquire() as other, other.transaction():
        await other.execute("LOCK TABLE wafer_data.run_default IN ROW EXCLUSIVE MODE")
        made, runs = await keeper.run_round(store, SHORT[:2], now_ns=NOW + 40 * DAY)
        assert (made.step, made.outcome, runs.outcome) == ("partitions", "failed", "nothing")
    (made,) = await keeper.run_round(store, SHORT[:1], now_ns=NOW + 40 * DAY)
    assert made.outcome == "done"


async def test_rounds_that_find_nothing_are_one_entry(store):
    for _ in range(3):
        await keeper.run_round(store, SHORT[1:2], now_ns=NOW)
    assert await _log(store) == [("runs", "nothing", "", 3)]


async def test_runs_are_rolled_up_where_no_worker_runs_beside(store):
    rolling = [step for step in STEPS if step.name == "rollups"]
    await keeper.run_round(store, rolling, now_ns=NOW)
    await store.writer.write(builders.runs(builders.ended(1), builders.ended(2)))
    (done,) = await keeper.run_round(store, rolling, now_ns=NOW)
    assert done.report == "2 changes rolled up, 0 hours made anew"
    await store.writer.write(builders.runs(builders.ended(3)))
    await store.pool.execute("UPDATE wafer_data.rollup_state SET taken_at = now() - interval '1 hour'")
    (late,) = await keeper.run_round(store, rolling, now_ns=NOW, rolls=True)
    assert (late.outcome, late.report[:16]) == ("failed", "the rollups are ")


async def test_old_dead_letters_rollups_and_entries_go(store):
    await store.writer.write([Batch(runs=[builders.ended(1)], dead=[builders.dead()])])
    rest = [step for step in STEPS if step.name in {"rollups", "leftovers", "retention"}]
    await keeper.run_round(store, rest, now_ns=NOW, force=True)
    assert await store.pool.fetchval("SELECT count(*) FROM wafer_data.dead_letter") == 1
    done = await keeper.run_round(store, rest, now_ns=NOW + 11 * 366 * DAY, force=True)
    assert {one.step: one.report for one in done} == {
        "rollups": "",
        "leftovers": "1 dead letters deleted",
        "retention": "8 old rollups deleted",
    }


async def test_alerts_that_are_long_over_go_and_open_ones_stay(store):
    retention = [step for step in STEPS if step.name == "retention"]
    async with store.watch.lead() as lead:
        expected = [alerts.expected(-1, settled=True), alerts.expected(1)]
        met = alerts.expected(-2, settled=True, state=ExpectedState.MET)
        await lead.store(watch.Outcome(expected=[met, *expected], alerts=[alerts.alert(1), alerts.alert(2, resolved_ns=NOW)]))
    (kept,) = await keeper.run_round(store, retention, now_ns=NOW + 61 * DAY, force=True)
    assert kept.outcome == "nothing"
    (came,) = await keeper.run_round(store, retention, now_ns=NOW + 179 * DAY, force=True)
    assert came.report == "1 old alerts and expected runs deleted"
    (gone,) = await keeper.run_round(store, retention, now_ns=NOW + 181 * DAY, force=True)
    assert gone.report == "2 old alerts and expected runs deleted"
    async with store.watch.lead() as lead:
        assert [await lead.open_alerts(), await lead.unsettled()] == [[alerts.alert(1)], expected[1:]]


async def test_with_the_archive_off_days_go_only_where_that_is_asked_for(store, monkeypatch):
    retention = [step for step in STEPS if step.name == "retention"]
    late = builders.span(2, start_ns=NOW - 40 * DAY)
    await store.writer.write([Batch(spans=[builders.span(1), late], runs=[builders.ended(1)])])
    await keeper.run_round(store, [step for step in STEPS if step.name == "rollups"], now_ns=NOW)
    later = NOW + 800 * DAY
    (kept,) = await keeper.run_round(store, retention, now_ns=later, force=True)
    assert kept.outcome == "nothing"
    monkeypatch.setenv("WAFER_MAINTAIN_DROP_UNARCHIVED_DAYS", "3")
    (dropped,) = await keeper.run_round(store, retention, now_ns=later, force=True)
    assert "days dropped without being archived: span " in dropped.report
    for table in ("span", "span_late", "run"):
        assert await store.pool.fetchval(f"SELECT count(*) FROM wafer_data.{table}") == 0
    assert await store.pool.fetchval("SELECT sum(ended) FROM wafer_data.job_monthly WHERE dimension = 0") == 1


async def test_the_archive_takes_a_day_and_then_lets_it_go(store, monkeypatch):
    monkeypatch.setenv("WAFER_ARCHIVE_ENABLED", "true")
    archive = [step for step in STEPS if step.name == "archive"]
    await store.writer.write([Batch(spans=[builders.span(1, start_ns=NOW - 3 * DAY)])])
    (done,) = await keeper.run_round(store, archive, now_ns=NOW + 30 * DAY)
    assert ("days archived" in done.report, "days dropped" in done.report) == (True, True), done.report
    assert await store.pool.fetchval("SELECT count(*) FROM wafer_data.span") == 0


async def test_files_that_late_rows_made_are_merged_again(store, monkeypatch):
    monkeypatch.setenv("WAFER_ARCHIVE_ENABLED", "true")
    by_name = {step.name: step for step in STEPS}
    for number in range(6):
        await store.writer.write([Batch(spans=[builders.span(number, start_ns=NOW - 3 * DAY)])])
        await keeper.run_round(store, [by_name["archive"]], now_ns=NOW + 30 * DAY, force=True)
    files = "SELECT count(*) FROM wafer_data.archive_manifest WHERE retired_at IS NULL"
    assert await store.pool.fetchval(files) == 6
    planned = await outlook(store, Config.load(), ArchiveConfig.load(), NOW + 30 * DAY)
    assert planned.merge == 1
    (done,) = await keeper.run_round(store, [by_name["compaction"]], now_ns=NOW + 30 * DAY, force=True)
    assert done.report == "files of 1 archived days merged, 6 rows"
    assert await store.pool.fetchval(files) == 1
    (again,) = await keeper.run_round(store, [by_name["compaction"]], now_ns=NOW + 30 * DAY, force=True)
    assert again.outcome == "nothing"


async def test_statistics_are_made_of_what_changed(store):
    await store.pool.execute("INSERT INTO wafer_data.site (name) SELECT 'f' || i FROM generate_series(1, 3000) i")
    await store.pool.execute("SELECT pg_stat_force_next_flush()")
    statistics = [step for step in STEPS if step.name == "statistics"]
    (done,) = await keeper.run_round(store, statistics, now_ns=NOW)
    assert "tables analyzed" in done.report
    assert await store.pool.fetchval("SELECT reltuples FROM pg_class WHERE oid = 'wafer_data.site'::regclass") == 3000
    await store.pool.execute("SELECT pg_stat_force_next_flush()")
    assert (await keeper.run_round(store, statistics, now_ns=NOW, force=True))[0].outcome == "nothing"


async def test_only_one_of_many_leads(store):
    async with store.pool.acquire() as leader:
        assert await leader.fetchval("SELECT pg_try_advisory_lock($1)", maintenance.LOCK)
        assert await keeper.run_round(store, SHORT, now_ns=NOW) is None
        assert await keeper.run_round(store, LONG, now_ns=NOW) is not None


async def test_rounds_and_rare_steps_are_told(store):
    told = []

    @contextmanager
    def tell(name):
        told.append(name)
        yield

    await keeper.run_round(store, SHORT, now_ns=NOW, told=tell)
    assert told == ["maintain", "statistics", "indexes", "retention", "names"]
    await keeper.run_round(store, SHORT, now_ns=NOW + 60 * SECOND, told=tell)
    assert len(told) == 5


async def test_keep_works_until_told_to_stop(store):
    stop = asyncio.Event()
    times = iter([NOW, NOW + DAY])

    def clock() -> int:
        now_ns = next(times, None)
        if now_ns is None:
            stop.set()
            return NOW
        return now_ns

    async with asyncio.timeout(60):
        await keeper.keep(store, stop, clock=clock)
    newest = await store.pool.fetchval("SELECT newest FROM wafer_data.hot_window()")
    assert newest * 1000 == (NOW // DAY + 1 + 8) * DAY


async def test_keep_outlives_the_database(postgres: server.Server, caplog):
    own = server.start()
    caplog.set_level(logging.INFO)
    stop = asyncio.Event()
    try:
        store = await connect(StorageConfig.load(dsn=own.migrated(), maintain_interval_s=0.01))
        own.kill()
        keeping = asyncio.create_task(keeper.keep(store, stop, clock=lambda: NOW + 9 * DAY, long=True))
        async with asyncio.timeout(60):
            await _until(lambda: "maintenance of the store" in caplog.text)
            own.restart()
            await _until(lambda: "partitions made" in caplog.text)
            stop.set()
            await keeping
        await store.close()
    finally:
        own.stop()


async def test_memory_needs_no_maintenance():
    stop = asyncio.Event()
    stop.set()
    async with asyncio.timeout(5):
        await keeper.keep(memory.Storage(), stop)
