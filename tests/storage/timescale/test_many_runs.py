"""More runs in one group than may be merged under one lock."""

from __future__ import annotations

import asyncio

import pytest

from tests.storage import blocks
from tests.storage.contract.builders import NOW, SECOND, ended, run, span
from wafermonitor.runs.merge import merge_all
from wafermonitor.runs.records import Batch
from wafermonitor.storage.errors import StorageRejected, StorageUnavailable
from wafermonitor.storage.protocol import RunQuery
from wafermonitor.storage.timescale import writer as writing

pytestmark = pytest.mark.postgres
MOST = 10


@pytest.fixture(autouse=True)
def _few(monkeypatch):
    monkeypatch.setattr(writing, "MOST_DELTAS", MOST)


def messages():
    """Of 60 runs, half of which have two."""
    return [run(number, cpu_s=1.0) for number in range(60)] + [ended(number, end_ns=NOW + SECOND) for number in range(30)]


async def stored(store):
    found = (await store.reader.runs(RunQuery(limit=1000))).items
    return sorted((item.run for item in found), key=lambda item: item.key)


@pytest.mark.parametrize("as_rows", [False, True])
async def test_they_are_merged_in_transactions_of_few(store, as_rows):
    told = messages()
    batches = [Batch(spans=[span(number)], runs=[message]) for number, message in enumerate(told)]
    for _ in range(2):
        await store.writer.write([blocks.part(*batches)] if as_rows else batches)
    assert await stored(store) == merge_all(told)
    assert await store.pool.fetchval("SELECT count(*) FROM wafer_data.span") == len(told)
    sizes = "SELECT max(runs) FROM (SELECT count(*) AS runs FROM wafer_data.run_open GROUP BY changed_xid) AS transactions"
    assert await store.pool.fetchval(sizes) <= MOST


async def test_writers_with_the_same_many_runs_merge_all_of_them(store):
    told = messages()
    shares = (told, told[::-1], told[40:] + told[:40])
    await asyncio.gather(*(store.another_writer().write([Batch(runs=share)]) for share in shares))
    assert await stored(store) == merge_all(told)


async def test_a_group_that_failed_half_way_comes_again_by_the_same_session(store):
    told = messages()
    bad = "ALTER TABLE wafer_data.run_open ADD CONSTRAINT bad CHECK (run_id <> 'run-59')"
    await store.pool.execute(bad)
    with pytest.raises(StorageRejected):
        await store.writer.write([Batch(runs=told)])
    await store.pool.execute("ALTER TABLE wafer_data.run_open DROP CONSTRAINT bad")
    await store.writer.write([Batch(runs=told)])
    assert await stored(store) == merge_all(told)


async def test_a_session_that_is_lost_half_way_is_no_loss(store):
    told = messages()
    async with store.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT wafer_data.lock_runs()")
        late = asyncio.create_task(store.writer.write([Batch(runs=told)]))
        waiting = "SELECT pid FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))"
        async with asyncio.timeout(30):
            while (pid := await connection.fetchval(waiting)) is None:
                await asyncio.sleep(0)
        await connection.execute("SELECT pg_terminate_backend($1)", pid)
        with pytest.raises(StorageUnavailable):
            await late
    await store.writer.write([Batch(runs=told)])
    assert await stored(store) == merge_all(told)
