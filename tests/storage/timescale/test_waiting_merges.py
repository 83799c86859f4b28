"""A merge that waits: for a row that maintenance is just writing, for the lock of another writer."""

from __future__ import annotations

import asyncio

import pytest

from tests.storage.contract.builders import ended, run
from tests.storage.engines import on_postgres
from wafermonitor.runs.records import Batch

pytestmark = pytest.mark.postgres


async def held_up(connection, *writing):
    """Until each of `writing` waits for what `connection` holds."""
    query = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))"
    async with asyncio.timeout(30):
        while await connection.fetchval(query) < len(writing):
            done, _ = await asyncio.wait(writing, timeout=0.01)
            assert not done


async def places(store):
    """How many runs stand in `run` and in `run_open`."""
    return [await store.pool.fetchval(f"SELECT count(*) FROM wafer_data.{table}") for table in ("run", "run_open")]


async def test_a_run_that_ends_while_maintenance_marks_it_stands_in_one_place(store):
    await store.writer.write([Batch(runs=[run(1)])])
    async with store.pool.acquire() as connection:
        async with connection.transaction():
            await connection.execute("UPDATE wafer_data.run_open SET inferred = true")
            writing = asyncio.create_task(store.writer.write([Batch(runs=[ended(1)])]))
            await held_up(connection, writing)
        await writing
    assert await places(store) == [1, 0]


async def test_writers_merge_though_the_database_begins_with_old_snapshots(dsn):
    """Both have begun before either may merge: the second must see what the first has written meanwhile."""
    async with on_postgres(dsn, default_transaction_isolation="repeatable read") as store:
        await store.writer.write([Batch(runs=[run(2)])])
        async with store.pool.acquire() as connection:
            async with connection.transaction():
                await connection.execute("SELECT wafer_data.lock_runs()")
                writing = [asyncio.create_task(store.another_writer().write([Batch(runs=[one])])) for one in (run(1), ended(1))]
                await held_up(connection, *writing)
            await asyncio.gather(*writing)
        assert await places(store) == [1, 1]
