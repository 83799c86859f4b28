"""What the plan says of drops and disk, for stores that are empty, young, not archived, or cannot be."""

from __future__ import annotations

import random
import sys

import pytest

from tests.storage.contract import builders
from wafermonitor.runs.records import Batch
from wafermonitor.storage.archive.config import Config as ArchiveConfig
from wafermonitor.storage.archive.protocol import day_of
from wafermonitor.storage.maintain import keeper
from wafermonitor.storage.maintain.config import Config
from wafermonitor.storage.maintain.outlook import Outlook, outlook
from wafermonitor.storage.maintain.steps import NO_EXTRA, STEPS

pytestmark = pytest.mark.postgres
NOW, DAY = builders.NOW, builders.DAY


async def plan(store, now_ns: int = NOW) -> Outlook:
    return await outlook(store, Config.load(), ArchiveConfig.load(), now_ns)


async def test_an_empty_store_stays_as_it_is(store, monkeypatch):
    for enabled in ("false", "true"):
        monkeypatch.setenv("WAFER_ARCHIVE_ENABLED", enabled)
        found = await plan(store)
        assert {room.daily_bytes for room in found.rooms} == {0.0}
        assert found.later_bytes == found.bytes
        assert (found.archive_daily_bytes, found.merge) == (0.0, 0)


async def test_on_its_first_day_a_store_is_judged_by_what_the_day_took_so_far(store):
    midnight = NOW // DAY * DAY
    spans = [builders.span(number, start_ns=midnight + number) for number in range(2000)]
    await store.writer.write([Batch(spans=spans)])
    half = {room.table: room for room in (await plan(store, midnight + DAY // 2)).rooms}["span"]
    quarter = {room.table: room for room in (await plan(store, midnight + DAY // 4)).rooms}["span"]
    assert half.daily_bytes > 1_000_000
    assert quarter.daily_bytes == pytest.approx(2 * half.daily_bytes)
    assert half.later_bytes == half.bytes + 90 * half.daily_bytes


async def test_the_age_of_a_store_is_counted_from_its_first_run_not_from_the_first_of_that_month(store):
    dice = random.Random(1)
    letters = [builders.dead(str(number))._replace(sample=dice.randbytes(600)) for number in range(3000)]
    ended = builders.ended(1, start_ns=NOW - DAY, end_ns=NOW)
    await store.writer.write([Batch(runs=[ended], dead=letters)])
    room = {room.table: room for room in (await plan(store, NOW + 10 * DAY)).rooms}["dead_letter"]
    assert room.bytes > 1_000_000
    assert room.daily_bytes == pytest.approx(room.bytes / 11)


async def test_where_the_archive_cannot_be_written_nothing_is_said_to_go(store, monkeypatch):
    """Archiving is on by default, and its packages may not be installed."""
    monkeypatch.setenv("WAFER_ARCHIVE_ENABLED", "true")
    await store.writer.write([Batch(spans=[builders.span(number, start_ns=NOW - DAY) for number in range(500)])])
    for name in list(sys.modules):
        if name.startswith(("wafermonitor.storage.archive.", "pyarrow")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    found = await plan(store)
    assert (found.archive, found.drop, found.keeps) == ((), (), NO_EXTRA)
    span = {room.table: room for room in found.rooms}["span"]
    assert span.later_bytes == span.bytes + 90 * span.daily_bytes
    steps = [step for step in STEPS if step.name in {"archive", "compaction"}]
    done = await keeper.run_round(store, steps, now_ns=NOW, force=True)
    assert {(one.outcome, one.report) for one in done} == {("failed", NO_EXTRA)}


async def test_days_that_the_next_round_archives_and_drops_are_both_planned(store, monkeypatch):
    monkeypatch.setenv("WAFER_ARCHIVE_ENABLED", "true")
    await store.writer.write([Batch(spans=[builders.span(1, start_ns=NOW - 2 * DAY)])])
    later = NOW + 30 * DAY
    planned = await plan(store, later)
    assert {name for name, rows in planned.archive if rows} == {f"spans {day_of(NOW - 2 * DAY)}"}
    assert f"spans {day_of(NOW - 2 * DAY)}" in planned.drop


async def test_what_is_dropped_without_an_archive_is_planned(store, monkeypatch):
    await store.writer.write([Batch(spans=[builders.span(1)], logs=[builders.log(1)])])
    assert (await plan(store, NOW + 800 * DAY)).drop == ()
    monkeypatch.setenv("WAFER_MAINTAIN_DROP_UNARCHIVED_DAYS", "3")
    planned = await plan(store, NOW + 800 * DAY)
    assert "run" in {name.split()[0] for name in planned.drop}
    retention = [step for step in STEPS if step.name == "retention"]
    (done,) = await keeper.run_round(store, retention, now_ns=NOW + 800 * DAY, force=True)
    assert done.report.startswith(f"{len(planned.drop)} days dropped without being archived")
    assert (await plan(store, NOW + 800 * DAY)).drop == ()
