"""Rows that a block has ready: cut anywhere, beside records, sent again, and by many writers at once."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager

import pytest

from tests.storage import blocks
from tests.storage.contract.builders import DAY, HOUR, NOW, SECOND, dead, ended, feed_beat, log, point, run, span, trace_id
from wafermonitor.runs.merge import merge_all
from wafermonitor.runs.records import Batch
from wafermonitor.storage.errors import StorageRejected
from wafermonitor.storage.memory import Storage
from wafermonitor.storage.protocol import Part, RunQuery, SpanQuery
from wafermonitor.storage.timescale.writer import Writer

pytestmark = pytest.mark.postgres


def request(number: int) -> Batch:
    """One request's worth, a part of it late."""
    return Batch(
        spans=[
            span(number, trace_id=trace_id(number)),
            span(number, trace_id=trace_id(number), start_ns=NOW - 40 * DAY),
        ],
        logs=[log(number, trace_id=trace_id(number))],
        points=[point(number)],
        runs=[run(number), ended(number)],
        feeds=[feed_beat(NOW + number)],
        dead=[dead(f"reason {number}")],
    )


@asynccontextmanager
async def lent(connection):
    """A connection as a pool lends it."""
    yield connection


async def counts(store):
    tables = ("span", "span_late", "log_record", "metric_point", "run", "run_open", "dead_letter")
    return [await store.pool.fetchval(f"SELECT count(*) FROM wafer_data.{table}") for table in tables]


async def test_a_part_is_what_its_requests_say_and_no_more(store):
    whole = blocks.block(*(request(number) for number in range(4)))
    await store.writer.write([Part(whole, 1, 3)])
    assert await counts(store) == [2, 2, 2, 2, 2, 0, 2]
    assert sorted(stored.run.run_id for stored in (await store.reader.runs(RunQuery())).items) == ["run-1", "run-2"]
    await store.writer.write([Part(whole, 0, 2), Part(whole, 2, 4)])
    assert await counts(store) == [4, 4, 4, 4, 4, 0, 4]


async def test_parts_records_and_doubles_share_a_group(store):
    group = [blocks.part(request(1), request(2)), request(2), blocks.part(request(1)), request(3)]
    for _ in range(2):
        await store.writer.write(group)
    assert await counts(store) == [3, 3, 3, 3, 3, 0, 3]
    found = (await store.reader.spans(SpanQuery(trace_id=trace_id(1)))).items
    assert found == sorted(request(1).spans, key=lambda item: item.start_ns)
    assert [stored.run for stored in (await store.reader.runs(RunQuery(run_id=("run-2",)))).items] == [ended(2)]


async def test_parts_without_a_row_store_nothing(store):
    empty = blocks.block(Batch(), Batch())
    await store.writer.write([Part(empty, 0, 2), Part(empty, 1, 1)])
    assert await counts(store) == [0] * 7


async def test_a_row_that_does_not_fit_stores_nothing_of_its_group(store):
    bad = blocks.part(Batch(spans=[span(1), span(2, attributes="{nope")], runs=[run(1)]))
    with pytest.raises(StorageRejected):
        await store.writer.write([request(3), bad])
    assert await counts(store) == [0] * 7
    await store.writer.write([blocks.part(request(3))])
    assert await counts(store) == [1, 1, 1, 1, 1, 0, 1]


async def test_the_memory_engine_says_that_it_takes_no_rows():
    storage = Storage()
    assert storage.writer.row_format is None
    with pytest.raises(StorageRejected):
        await storage.writer.write([blocks.part(request(1))])


def lives(number):
    """Everything that can be said of a run, in an order in which nothing is known before."""
    early = NOW - HOUR
    return [
        run(number, start_ns=early + number, heartbeat_interval_s=1.0, owner="a"),
        run(number, start_ns=None, last_sign_ns=NOW + number, cpu_s=float(number), lot_ids=("L1", "L2")),
        ended(number, start_ns=early - 40 * DAY * (number % 3), end_ns=NOW + SECOND, owner="b"),
        run(number, start_ns=None, end_rank=1, end_ns=NOW, result="failure", equipment="E1"),
    ]


@pytest.mark.parametrize("seed", range(4))
async def test_many_writers_that_bring_pieces_of_the_same_runs_merge_what_merge_all_does(store, seed):
    """Starts, signs and ends of each run by other writers, shuffled, some again, as rows and as records."""
    dice = random.Random(seed)
    told = [message for number in range(60) for message in lives(number) if dice.random() < 0.8]
    shares = [dice.sample(told, len(told) * 2 // 3) for _ in range(3)] + [told]

    async def bring(share):
        writer = Writer(store.pool)
        while share:
            batches = [Batch(runs=[message]) for message in share[: dice.randint(1, 25)]]
            share = share[len(batches) :]
            await writer.write([blocks.part(*batches)] if dice.random() < 0.7 else batches)

    async with asyncio.timeout(60):
        await asyncio.gather(*map(bring, shares))
    stored = (await store.reader.runs(RunQuery(limit=1000))).items
    assert sorted((item.run for item in stored), key=lambda item: item.key) == merge_all(told)
    ended_runs = sum(message.ended for message in merge_all(told))
    assert (await counts(store))[4:6] == [ended_runs, len(merge_all(told)) - ended_runs]


async def test_a_merge_that_was_planned_on_empty_tables_stays_cheap(store):
    """Plans are kept for a session; one that reads a table from end to end for each run costs hours in a store of some age."""
    number = 400
    async with store.pool.acquire() as connection:

        class OneConnection:
            """A pool whose only connection keeps its plans."""

            acquire = staticmethod(lambda: lent(connection))
            fetch = connection.fetch

        writer = Writer(OneConnection())
        for first in range(1, 13):
            await writer.write([Batch(runs=[run(-first)])])
            await writer.write([Batch(runs=[ended(-first)])])
            await connection.execute("DELETE FROM wafer_data.run; DELETE FROM wafer_data.run_open; ANALYZE wafer_data.run")
        for messages in (
            [run(one) for one in range(number)],
            [run(one, last_sign_ns=NOW + 1) for one in range(number)],
            [ended(one) for one in range(number)],
            [ended(one, cpu_s=1.0) for one in range(number)],
        ):
            await writer.write([Batch(runs=messages)])
        await connection.execute("SELECT pg_stat_force_next_flush()")
        read = await connection.fetchval(
            "SELECT sum(seq_tup_read + idx_tup_fetch) FROM pg_stat_user_tables WHERE relname ~ '^run_'"
        )
    assert await counts(store) == [0, 0, 0, 0, number, 0, 0]
    assert read < number * 20
