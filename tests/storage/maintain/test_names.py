"""Names that no row has any more are deleted; no row ever lacks its name, whatever writers do at that moment."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from tests.storage.contract import builders
from tests.storage.contract.builders import DAY, HOUR, NOW, SECOND
from wafermonitor.runs.records import Batch, ProcessBeat
from wafermonitor.storage.archive.protocol import day_of
from wafermonitor.storage.errors import StorageUnavailable
from wafermonitor.storage.maintain import keeper
from wafermonitor.storage.maintain.steps import STEPS
from wafermonitor.storage.protocol import SpanQuery
from wafermonitor.storage.timescale import maintenance, migrate
from wafermonitor.storage.timescale.dictionary import KEPT_S, Dictionary, Elapsed
from wafermonitor.storage.timescale.session import open_session
from wafermonitor.storage.timescale.writer import HELD_UP_S, Writer

pytestmark = pytest.mark.postgres

TABLES = {"metric_series": "series_id", "resource": "resource_id", "scope": "scope_id"}
TODAY = day_of(NOW)
LONG_AGO = TODAY - timedelta(days=60)
LOOSE = """
SELECT count(*) FROM (
  SELECT resource_id, scope_id FROM wafer_data.span UNION ALL SELECT resource_id, scope_id FROM wafer_data.span_late
  UNION ALL SELECT resource_id, scope_id FROM wafer_data.metric_series
  UNION ALL
  SELECT m.resource_id, m.scope_id FROM (
    SELECT series_id FROM wafer_data.metric_point UNION ALL SELECT series_id FROM wafer_data.metric_late
  ) p LEFT JOIN wafer_data.metric_series m USING (series_id)
) t LEFT JOIN wafer_data.resource r USING (resource_id) LEFT JOIN wafer_data.scope c USING (scope_id)
WHERE r.key IS NULL OR c.key IS NULL
"""
"""Rows and series whose names are not there."""


class Hours:
    """Time that passes for a writer when a test says so."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def program(number: int, at_ns: int = NOW - HOUR) -> Batch:
    """What a program with names of its own sends."""
    where = builders.resource(service=f"job-{number}", process_key=builders.trace_id(number))
    tools = builders.scope(f"tools-{number}")
    return Batch(
        spans=[builders.span(number, resource=where, scope=tools, start_ns=at_ns)],
        points=[builders.point(number, series=builders.series(resource=where, scope=tools), time_ns=at_ns)],
        processes=[ProcessBeat(where.process_key, "f1", "tool-7", number, "i", at_ns, 30.0)],
    )


async def age(store, day=LONG_AGO) -> None:
    """As if every name had been noted last on `day`."""
    for table in TABLES:
        await store.pool.execute(f"UPDATE wafer_data.{table} SET seen = $1", day)


async def forget(store, now_ns: int = NOW, **given) -> tuple[int, int, int, int]:
    async with store.pool.acquire() as connection:
        gone = await maintenance.forget_names(connection, now_ns, 60.0, **given)
    assert gone.whole
    return gone[:4]


async def empty(store) -> None:
    """As if the days of all rows had left."""
    for table in ("span", "metric_point", "span_late", "metric_late"):
        await store.pool.execute(f"DELETE FROM wafer_data.{table}")


async def numbers(store) -> dict[str, int]:
    return {table: await store.pool.fetchval(f"SELECT count(*) FROM wafer_data.{table}") for table in TABLES}


async def loose(store) -> int:
    return await store.pool.fetchval(LOOSE)


def test_a_clock_that_stands_still_or_goes_back_is_made_up_for_by_the_other():
    steady, wall = Hours(), Hours()
    elapsed = Elapsed(steady, wall)
    steady.now_s, wall.now_s = 1.0, 50_000.0  # the host slept
    assert elapsed() == 50_000.0
    steady.now_s, wall.now_s = 101.0, -1e9  # somebody set the clock
    assert elapsed() == 50_100.0


async def test_a_name_in_use_is_noted_once_a_day(store):
    hours = Hours()
    writer = Writer(store.pool)
    writer._dictionary = Dictionary(elapsed=hours)
    await writer.write([program(1)])
    await age(store, TODAY - timedelta(days=3))
    places = "SELECT ctid::text FROM wafer_data.metric_series"
    before = await store.pool.fetchval(places)
    hours.now_s = KEPT_S - 1
    await writer.write([program(1, NOW - HOUR + 1)])
    assert await store.pool.fetchval(places) == before
    hours.now_s = KEPT_S + 1
    await writer.write([program(1, NOW - HOUR + 2)])
    noted = await store.pool.fetchval(places)
    assert noted != before
    for table in TABLES:
        assert await store.pool.fetchval(f"SELECT bool_and(seen = (now() AT TIME ZONE 'UTC')::date) FROM wafer_data.{table}")
    hours.now_s = 3 * KEPT_S
    await writer.write([program(1, NOW - HOUR + 3)])
    assert await store.pool.fetchval(places) == noted
    assert await numbers(store) == dict.fromkeys(TABLES, 1)


async def test_names_without_rows_go_in_time_and_come_again_by_another_number(store):
    hours = Hours()
    writer = Writer(store.pool)
    writer._dictionary = Dictionary(elapsed=hours)
    await writer.write([program(number) for number in range(25)])
    assert await forget(store) == (0, 0, 0, 0)
    old = await store.pool.fetchval("SELECT max(series_id) FROM wafer_data.metric_series")
    await empty(store)
    oldest = await store.pool.fetchval("SELECT min(day) FROM wafer_data.stored_days('span')")
    await age(store, oldest - timedelta(days=16))
    assert await forget(store) == (0, 0, 0, 0)
    await age(store, oldest - timedelta(days=17))
    assert await forget(store, at_once=4) == (25, 25, 25, 0)
    hours.now_s = KEPT_S
    await writer.write([program(number) for number in range(25)])
    assert await store.pool.fetchval("SELECT min(series_id) FROM wafer_data.metric_series") > old
    assert await loose(store) == 0
    spans = (await store.reader.spans(SpanQuery(trace_id=builders.TRACE, limit=100))).items
    assert {span.resource.service for span in spans} == {f"job-{number}" for number in range(25)}
    # Sent once more, also by another writer, nothing is there twice.
    await store.writer.write([program(number) for number in range(25)])
    assert await store.pool.fetchval("SELECT count(*) FROM wafer_data.metric_point") == 25


async def test_names_of_rows_that_stand_apart_stay_however_old(store):
    # A clock of 1970, and one that is ten years ahead: both are of days that have no partition.
    await store.writer.write([program(1, 5 * SECOND), program(2, NOW + 3650 * DAY), program(3)])
    await store.pool.execute("DELETE FROM wafer_data.span")
    await store.pool.execute("DELETE FROM wafer_data.metric_point")
    await age(store)
    assert (await forget(store))[:3] == (1, 1, 1)
    assert await loose(store) == 0
    assert await store.pool.fetchval("SELECT count(*) FROM wafer_data.span_late") == 2


async def test_a_series_keeps_what_it_names(store):
    await store.writer.write([program(1)])
    await empty(store)
    await store.pool.execute("UPDATE wafer_data.resource SET seen = $1", LONG_AGO)
    await store.pool.execute("UPDATE wafer_data.scope SET seen = $1", LONG_AGO)
    assert await forget(store) == (0, 0, 0, 0)
    await age(store)
    assert await forget(store) == (1, 1, 1, 0)


async def test_an_old_day_that_is_stored_keeps_all_names(store):
    await store.writer.write([program(1)])
    await empty(store)
    await age(store)
    day = LONG_AGO - timedelta(days=1)
    await store.pool.fetch("SELECT wafer_data.keep_partitions($1, $1, $2)", day, TODAY)
    await store.pool.execute("INSERT INTO wafer_data.hot_day VALUES ($1) ON CONFLICT DO NOTHING", day)
    if await store.pool.fetchval("SELECT bool_and(is_hypertable) FROM wafer_data.day_table"):
        await store.writer.write([program(2, NOW - 61 * DAY)])  # makes the chunk
        await store.pool.execute("INSERT INTO wafer_data.span SELECT * FROM wafer_data.span_late")
    assert await forget(store) == (0, 0, 0, 0)


async def test_whatever_clock_maintenance_has_names_of_the_last_days_stay(store):
    await store.writer.write([program(1)])
    await empty(store)
    for now_ns in (NOW + 3650 * DAY, NOW - 3650 * DAY):
        await forget(store, now_ns)
        assert await numbers(store) == dict.fromkeys(TABLES, 1)
    # Nor does a name count as old because the database's own clock was set back.
    assert await store.pool.fetchval("SELECT value::date FROM wafer_data.setting WHERE name = 'names_day'") == TODAY
    later = TODAY + timedelta(days=9)
    await store.pool.execute("UPDATE wafer_data.setting SET value = $1 WHERE name = 'names_day'", str(later))
    await store.writer.write([program(2)])
    assert await store.pool.fetchval("SELECT max(seen) FROM wafer_data.resource") == later


async def test_no_day_further_ahead_than_ten_is_written(store):
    await store.pool.fetch("SELECT wafer_data.keep_partitions($1, $2, $1)", TODAY, TODAY + timedelta(days=40))
    newest = await store.pool.fetchval("SELECT (newest - now())::text FROM wafer_data.hot_window()")
    assert newest.startswith("10 days")
    await store.writer.write([program(1, NOW + 12 * DAY)])
    assert await store.pool.fetchval("SELECT count(*) FROM wafer_data.span_late") == 1


@asynccontextmanager
async def _paused(writer: Writer):
    """A writer that has its numbers, and has not begun its transaction."""
    numbered, go_on = asyncio.Event(), asyncio.Event()
    prepared = writer._prepared

    async def wait():
        numbered.set()
        await go_on.wait()
        return await prepared()

    writer._prepared = wait
    writing = asyncio.create_task(writer.write([program(1)]))
    await asyncio.wait_for(numbered.wait(), 30)
    try:
        yield writing
    finally:
        go_on.set()
        await asyncio.wait([writing], timeout=30)


async def test_a_writer_that_pauses_after_it_has_its_numbers_finds_them_again(store):
    hours = Hours()
    writer = Writer(store.pool)
    writer._dictionary = Dictionary(elapsed=hours)
    await writer.write([program(1)])
    await age(store)
    await empty(store)
    hours.now_s = KEPT_S + 1
    async with _paused(writer) as writing:
        assert await forget(store) == (0, 0, 0, 0)
    await writing
    assert await loose(store) == 0
    assert await store.pool.fetchval("SELECT count(*) FROM wafer_data.span") == 1


async def test_a_writer_that_was_held_up_for_hours_writes_nothing_and_asks_again(store):
    hours = Hours()
    writer = Writer(store.pool)
    writer._dictionary = Dictionary(elapsed=hours)
    async with _paused(writer) as writing:
        hours.now_s = HELD_UP_S + 1
    with pytest.raises(StorageUnavailable, match="held up for hours"):
        await writing
    assert await store.pool.fetchval("SELECT count(*) FROM wafer_data.span") == 0
    await age(store)
    assert await forget(store) == (1, 1, 1, 0)
    await writer.write([program(1)])
    assert await loose(store) == 0


class Held:
    """Who has the numbers of which names: they grow old when nobody has."""

    def __init__(self, count: int) -> None:
        self.by = [0] * count
        self.free = asyncio.Condition()

    @asynccontextmanager
    async def some(self, chosen):
        async with self.free:
            await self.free.wait_for(lambda: all(self.by[number] >= 0 for number in chosen))
            for number in chosen:
                self.by[number] += 1
        try:
            yield
        finally:
            async with self.free:
                for number in chosen:
                    self.by[number] -= 1
                self.free.notify_all()

    @asynccontextmanager
    async def nobody(self, number):
        """Until then whoever wants it waits; taken as soon as nobody has it."""
        async with self.free:
            await self.free.wait_for(lambda: self.by[number] == 0)
            self.by[number] = -1
        try:
            yield
        finally:
            async with self.free:
                self.by[number] = 0
                self.free.notify_all()


@pytest.mark.timeout(180)
async def test_writers_and_the_one_who_deletes_at_once(store):
    """A name grows old, and its rows leave, while no writer has its number, as days do; all else happens at any moment."""
    count = 8
    held, rows, deleted = Held(count), 0, 0

    async def write(seed: int) -> None:
        nonlocal rows
        dice, hours = random.Random(seed), Hours()
        writer = Writer(store.pool)
        writer._dictionary = Dictionary(elapsed=hours)
        turn = 0
        while turn < 30 or deleted < 20:
            hours.now_s += KEPT_S  # every group asks
            chosen = dice.sample(range(count), 3)
            async with held.some(chosen):
                at_ns = NOW - HOUR + seed * 1_000_000 + turn * 1000
                await writer.write([program(number, at_ns) for number in chosen])
                assert await loose(store) == 0
            rows, turn = rows + 3, turn + 1

    async def grow_old(seed: int) -> None:
        dice = random.Random(seed)
        while True:
            number = dice.randrange(count)
            async with held.nobody(number), store.pool.acquire() as connection, connection.transaction():
                key = program(number).points[0].series
                await connection.execute("DELETE FROM wafer_data.span WHERE name = $1", f"step {number}")
                await connection.execute(
                    "DELETE FROM wafer_data.metric_point WHERE series_id IN "
                    "(SELECT series_id FROM wafer_data.metric_series WHERE key = $1)",
                    key.key,
                )
                for table, one in (("scope", key.scope), ("resource", key.resource), ("metric_series", key)):
                    await connection.execute(f"UPDATE wafer_data.{table} SET seen = $2 WHERE key = $1", one.key, LONG_AGO)

    async def delete() -> None:
        nonlocal deleted
        while True:
            deleted += (await forget(store, at_once=3))[0]

    others = [asyncio.create_task(one) for one in (delete(), grow_old(1), grow_old(2))]
    writers = asyncio.gather(*(write(seed) for seed in (3, 4, 5)))
    await asyncio.wait([*others, writers], timeout=120, return_when=asyncio.FIRST_COMPLETED)
    for one in others:
        one.cancel()
    ends = await asyncio.gather(*others, return_exceptions=True)
    assert {type(end) for end in ends} == {asyncio.CancelledError}
    await writers
    assert rows >= 270
    assert await loose(store) == 0


async def test_processes_that_are_long_silent_go_but_for_those_of_open_runs(store):
    old = NOW - 60 * DAY
    beats = [program(number, old).processes[0] for number in range(3)] + [program(3).processes[0]]
    await store.writer.write(
        [
            Batch(
                processes=beats,
                runs=[
                    builders.run(1, process_key=beats[0].key, start_ns=old, last_sign_ns=old),
                    builders.ended(2, process_key=beats[1].key, start_ns=NOW - HOUR, end_ns=NOW - HOUR + SECOND),
                ],
            )
        ]
    )
    stated = "SELECT run_id, state, overdue FROM wafer.job_run ORDER BY run_id"
    before = await store.pool.fetch(stated)
    assert (await forget(store))[3] == 2
    left = {row[0] for row in await store.pool.fetch("SELECT process_key FROM wafer_data.process")}
    assert left == {beats[0].key, beats[3].key}
    assert await store.pool.fetch(stated) == before


async def test_the_step_says_what_went_and_needs_no_more_than_a_writer(store):
    await store.writer.write([program(1)])
    await empty(store)
    await age(store)
    await store.pool.execute("UPDATE wafer_data.process SET beat_unix_ns = 1")
    names = [step for step in STEPS if step.name == "names"]
    (done,) = await keeper.run_round(store, names, now_ns=NOW, force=True)
    assert done.report == "1 series deleted, 1 resources deleted, 1 scopes deleted, 1 processes deleted"
    (again,) = await keeper.run_round(store, names, now_ns=NOW, force=True)
    assert again.outcome == "nothing"
    async with store.pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL ROLE wafer_writer")
        await maintenance.forget_names(connection, NOW, 60.0)


async def test_a_store_of_before_has_its_names_noted_as_of_its_upgrade(store, dsn):
    await store.writer.write([program(1)])
    await empty(store)
    for table in TABLES:
        await store.pool.execute(f"ALTER TABLE wafer_data.{table} DROP COLUMN seen")
    await store.pool.execute("DELETE FROM wafer_data.setting WHERE name = 'names_day'")
    await store.pool.execute("DELETE FROM wafer_data.schema_migration WHERE name LIKE '%_note_names.sql'")
    async with open_session(dsn) as connection:
        assert [name[5:] for name in (await migrate.upgrade(connection)).applied] == ["pre_note_names.sql"]
    for table in TABLES:
        assert await store.pool.fetchval(f"SELECT seen = (now() AT TIME ZONE 'UTC')::date FROM wafer_data.{table}")
    assert await forget(store) == (0, 0, 0, 0)
