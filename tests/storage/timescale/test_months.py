"""Two years of months: a merge finds a run in whichever it is, and looks in few of them."""

from __future__ import annotations

import asyncio
import itertools
import random

import pytest

from tests.storage.contract.builders import DAY, NOW, SECOND, ended, run, runs
from wafermonitor.runs.merge import merge_all
from wafermonitor.storage.protocol import RunQuery
from wafermonitor.storage.timescale.writer import Writer

pytestmark = pytest.mark.postgres
STARTS = (None, NOW, NOW - 40 * DAY, NOW - 400 * DAY)


@pytest.fixture
async def old(store):
    """A store with the months of two years."""
    await store.pool.execute("SELECT wafer_data.keep_partitions(current_date, current_date + 7, current_date - 730)")
    assert await store.pool.fetchval("SELECT count(*) FROM pg_inherits WHERE inhparent = 'wafer_data.run'::regclass") >= 24
    return store


def messages(number):
    """A run whose messages disagree about its start by a year; two of them end it, one does not know when it began."""
    unknown, today, earlier, long_ago = STARTS
    return [
        run(number, start_ns=unknown, last_sign_ns=NOW + number, cpu_s=float(number)),
        ended(number, start_ns=today, end_ns=NOW + SECOND, owner="b"),
        run(number, start_ns=earlier, lot_ids=("L1",)),
        ended(number, start_ns=long_ago, end_ns=NOW, result="failure"),
    ]


async def stored(store):
    """All runs as they are read, and how many rows of ended ones there are."""
    found = (await store.reader.runs(RunQuery(limit=1000))).items
    rows = await store.pool.fetchval("SELECT count(*) FROM wafer_data.run")
    return sorted((item.run for item in found), key=lambda item: item.key), rows


async def test_in_whatever_order_starts_in_several_months_come_it_is_one_run(old):
    told = []
    for number, order in enumerate(itertools.permutations(range(len(STARTS)))):
        said = messages(number)
        told += said
        for place in order:
            await old.writer.write(runs(said[place]))
    assert await stored(old) == (merge_all(told), 24)


@pytest.mark.parametrize("seed", range(3))
async def test_writers_at_once_with_starts_in_several_months_make_one_run(old, seed):
    dice = random.Random(seed)
    told = [message for number in range(40) for message in messages(number)]

    async def bring(share):
        writer = Writer(old.pool)
        while share:
            count = dice.randint(1, 25)
            await writer.write(runs(*share[:count]))
            share = share[count:]

    async with asyncio.timeout(60):
        await asyncio.gather(*(bring(dice.sample(told, len(told))) for _ in range(3)))
    assert await stored(old) == (merge_all(told), 40)


@pytest.mark.parametrize("days", [0, -20, -90, -2000, 90])
async def test_a_word_that_comes_after_the_end_finds_its_run(old, days):
    start_ns = NOW + days * DAY
    finished = ended(1, start_ns=start_ns, end_ns=start_ns + SECOND)
    late = [run(1, start_ns=None, cpu_s=1.0), finished, ended(1, start_ns=start_ns + SECOND, end_ns=NOW, owner="late")]
    await old.writer.write(runs(finished))
    for word in late:
        await old.writer.write(runs(word))
    assert await stored(old) == (merge_all([finished, *late]), 1)


async def test_an_end_that_knows_no_start_waits_for_it(old):
    said = [ended(1, start_ns=None, end_ns=NOW), run(1, start_ns=NOW - SECOND), ended(1, start_ns=NOW - 90 * DAY, end_ns=NOW)]
    for word in said:
        await old.writer.write(runs(word))
    assert await stored(old) == (merge_all(said), 1)


async def test_ids_that_come_again_a_month_after_their_run_are_another_run(old):
    """As a program that takes its ids from a list would do it; see merge.sql."""
    await old.writer.write(runs(ended(1, start_ns=NOW - 60 * DAY, end_ns=NOW - 59 * DAY)))
    await old.pool.execute("DELETE FROM wafer_data.run_far")  # as it would be if that had been merged when it ended
    await old.writer.write(runs(ended(1, start_ns=NOW, end_ns=NOW + SECOND)))
    assert (await stored(old))[1] == 2


async def test_far_runs_are_forgotten_with_their_months(old):
    far = [ended(number, start_ns=NOW - days * DAY, end_ns=NOW) for number, days in enumerate((90, 200))]
    await old.writer.write(runs(*far))
    names = "SELECT array_agg(span_id ORDER BY start_time) FROM wafer_data.run_far"
    first, last = await old.pool.fetchval(names)
    await old.pool.fetch("SELECT wafer_data.sweep_ghosts()")
    assert await old.pool.fetchval(names) == [first, last]
    await old.pool.execute("DELETE FROM wafer_data.run WHERE span_id = $1", first)
    await old.pool.fetch("SELECT wafer_data.sweep_ghosts()")
    assert await old.pool.fetchval(names) == [last]


async def test_many_ghosts_are_swept_in_rounds_of_few(store):
    """A restored backup may have as many as it has runs, and every writer waits while they are merged."""
    await store.writer.write(runs(run(0)))
    await store.pool.execute(
        "INSERT INTO wafer_data.run_open "
        "(trace_id, span_id, site_id, end_rank, start_time, start_unix_ns, end_unix_ns, inferred) "
        "SELECT gen_random_uuid(), n, site_id, 1, start_time, start_unix_ns, start_unix_ns + 1, false "
        "FROM wafer_data.run_open CROSS JOIN generate_series(1, 4100) n"
    )
    assert [await store.pool.fetchval("SELECT wafer_data.sweep_ghosts()") for _ in range(3)] == [4096, 4, 0]
    assert (await stored(store))[1] == 4100


async def test_only_the_months_around_now_are_looked_at(old):
    """The cost of a run does not grow with the age of the store."""
    looked_at = (
        "SELECT count(*) FILTER (WHERE idx_scan > 0) FROM pg_stat_user_indexes "
        "WHERE relname ~ '^run_[0-9]{6}$' AND indexrelname ~ '_trace_id_'"
    )
    numbers = range(50)
    for said in (
        [run(number) for number in numbers],
        [run(number, start_ns=None, cpu_s=1.0) for number in numbers],
        [ended(number) for number in numbers],
        [ended(100 + number) for number in numbers],
    ):
        await old.writer.write(runs(*said))
        await old.writer.write(runs(*said))
    async with old.pool.acquire() as connection:
        await connection.execute("SELECT pg_stat_force_next_flush()")
        assert 1 <= await connection.fetchval(looked_at) <= 3
