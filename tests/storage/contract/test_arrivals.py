"""An item without a time of its own keeps the time of its first delivery, whoever is asked and however many ask at once."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from tests.storage.contract.builders import NOW, SECOND
from tests.storage.engines import on_postgres
from wafermonitor.storage.timescale import maintenance
from wafermonitor.storage.timescale.statements import statement


def digest(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest()


async def test_the_first_time_that_is_given_stays(engine):
    assert await engine.writer.first_arrivals({digest(1): NOW, digest(2): NOW + 1}) == {digest(1): NOW, digest(2): NOW + 1}
    again = await engine.another_writer().first_arrivals({digest(2): NOW + 9, digest(3): NOW + 9, digest(1): NOW - 9})
    assert again == {digest(1): NOW, digest(2): NOW + 1, digest(3): NOW + 9}


async def test_nothing_asked_is_nothing_answered(engine):
    assert await engine.writer.first_arrivals({}) == {}


async def test_many_that_ask_at_once_are_told_the_same(engine):
    """In any order of the digests: nobody waits in a circle."""
    digests = [digest(number) for number in range(200)]
    asked = [dict.fromkeys(digests[::step], NOW + place) for place, step in enumerate((1, -1) * 10)]
    answers = await asyncio.gather(*(engine.another_writer().first_arrivals(one) for one in asked))
    assert all(answer == answers[0] for answer in answers)
    assert len(answers[0]) == len(digests)


@pytest.mark.postgres
async def test_maintenance_forgets_what_is_older_than_it_must_be_known(postgres):
    dsn = postgres.migrated()
    async with on_postgres(dsn) as engine:
        old, young = NOW - 11 * SECOND, NOW - 9 * SECOND
        await engine.writer.first_arrivals({digest(1): old, digest(2): young})
        await maintenance.run_once(engine.pool, hot_days=3, now_ns=NOW, remember_arrivals_s=10.0)
        assert await engine.writer.first_arrivals({digest(1): NOW, digest(2): NOW}) == {digest(1): NOW, digest(2): young}
    postgres.drop(dsn)


@pytest.mark.postgres
async def test_forgetting_waits_for_nobody_who_asks(postgres):
    """Both lock many rows: if either waited for the other, one of them could be refused."""
    dsn = postgres.migrated()
    async with on_postgres(dsn) as engine:
        await engine.writer.first_arrivals({digest(1): 1, digest(2): 1})
        async with engine.pool.acquire() as connection, connection.transaction():
            await connection.execute("SELECT FROM wafer_data.arrival WHERE digest = $1 FOR UPDATE", digest(1))
            async with asyncio.timeout(30):
                await engine.pool.execute(statement("forget_arrivals"), NOW)
        assert await engine.writer.first_arrivals({digest(1): NOW, digest(2): NOW}) == {digest(1): 1, digest(2): NOW}
    postgres.drop(dsn)


@pytest.mark.postgres
async def test_whoever_asks_waits_for_the_answer_of_another_though_the_database_begins_with_old_snapshots(postgres):
    dsn = postgres.migrated()
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))"
    async with on_postgres(dsn, default_transaction_isolation="repeatable read") as engine:
        async with engine.pool.acquire() as connection, connection.transaction(isolation="read_committed"):
            await connection.execute("INSERT INTO wafer_data.arrival VALUES ($1, 1)", digest(1))
            asking = asyncio.create_task(engine.writer.first_arrivals({digest(1): NOW}))
            async with asyncio.timeout(30):
                while not await connection.fetchval(waiting):
                    await asyncio.sleep(0)
        assert await asking == {digest(1): 1}
    postgres.drop(dsn)
