"""A merge that meets what maintenance is just writing."""

from __future__ import annotations

import asyncio

import pytest

from tests.storage.contract.builders import ended, run
from wafermonitor.runs.records import Batch

pytestmark = pytest.mark.postgres


async def waiting(connection):
    """Until another session waits for a row of this one."""
    async with asyncio.timeout(20):
        while not await connection.fetchval(
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid)))"
        ):
            await asyncio.sleep(0.01)


async def test_a_run_that_ends_while_maintenance_marks_it_stands_in_one_place(store):
    await store.writer.write([Batch(runs=[run(1)])])
    async with store.pool.acquire() as connection:
        async with connection.transaction():
            await connection.execute("UPDATE wafer_data.run_open SET inferred = true")
            writing = asyncio.create_task(store.writer.write([Batch(runs=[ended(1)])]))
            await waiting(connection)
        await writing
    assert await store.pool.fetchval("SELECT count(*) FROM wafer_data.run") == 1
    assert await store.pool.fetchval("SELECT count(*) FROM wafer_data.run_open") == 0
