"""An upgrade of a store that is being written to: no writer waits long, and what was half done is done again."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from tests.storage.contract.builders import ended, feed_beat, run, runs, span
from tests.storage.engines import on_postgres
from wafermonitor.runs.records import Batch
from wafermonitor.storage.errors import StorageRejected, StorageUnavailable
from wafermonitor.storage.timescale import codecs, migrate, online
from wafermonitor.storage.timescale.session import SETTINGS, open_session
from wafermonitor.storage.timescale.writer import Writer

pytestmark = pytest.mark.postgres
CATALOG = (Path(__file__).parent.parent / "catalog.sql").read_text()
INDEX = migrate.File(
    "0900_post_index_owners.sql",
    "-- outside a transaction\n"
    "-- Before the next one is dropped.\n"
    "CREATE INDEX CONCURRENTLY run_owner ON wafer_data.run (owner, start_time)\n  WHERE owner IS NOT NULL;\n"
    "CREATE UNIQUE INDEX CONCURRENTLY app_seen ON wafer_data.app (last_seen_unix_ns, app_id);\n"
    "DROP INDEX CONCURRENTLY IF EXISTS wafer_data.dead_letter_received;\n",
)
COLUMN = migrate.File(
    "0901_pre_add_shift.sql",
    'ALTER TABLE wafer_data.run_open ADD COLUMN shift text COLLATE "C"; '
    'ALTER TABLE wafer_data.run ADD COLUMN shift text COLLATE "C";',
)
WRITING = "LOCK TABLE wafer_data.run_default IN ROW EXCLUSIVE MODE"
"""What a writer holds that is in the midst of a run whose start is not known."""
RULE = "max(memory_bytes) AS memory_bytes,"
"""After this the rule of another column goes into the merge."""


@pytest.fixture
def pending(monkeypatch):
    """Makes files part of the release."""
    files = migrate.incremental()
    return lambda *more: monkeypatch.setattr(migrate, "incremental", lambda: (*files, *more))


@asynccontextmanager
async def using_a_run(store, sql):
    """A transaction that has said `sql` and does not end."""
    async with store.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(sql)
        try:
            yield
        finally:
            await transaction.rollback()


async def until_waiting(store, what):
    """A session whose statement begins so waits for another."""
    query = (
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE query LIKE $1 AND wait_event_type = 'Lock' AND datname = current_database()"
    )
    async with asyncio.timeout(30):
        while not await store.pool.fetchval(query, f"{what}%"):
            await asyncio.sleep(0)


async def catalog(dsn):
    async with open_session(dsn) as connection:
        return [row[0] for row in await connection.fetch(CATALOG)]


async def upgraded(dsn):
    async with open_session(dsn) as connection:
        return await migrate.upgrade(connection)


async def test_an_index_is_made_while_writers_write(dsn, store, pending, postgres):
    await store.writer.write(runs(ended(1, owner="a"), ended(2, start_ns=None)))
    pending(INDEX)
    async with using_a_run(store, WRITING):
        upgrade = asyncio.create_task(upgraded(dsn))
        await until_waiting(store, "CREATE INDEX CONCURRENTLY")
        async with asyncio.timeout(30):
            await store.writer.write([Batch(spans=[span(1)], runs=[run(3), ended(4, owner="c")])])
        assert not upgrade.done()
    assert await upgrade == migrate.Done((INDEX.name,), idempotent=True)
    assert await store.pool.fetchval("SELECT bool_and(indisvalid) FROM pg_index")
    fresh = postgres.extended()
    await upgraded(fresh)
    assert await catalog(dsn) == await catalog(fresh)


async def test_an_index_that_was_half_made_is_made_anew(dsn, store, pending):
    await store.writer.write(runs(ended(1, owner="a")))
    pending(INDEX)
    async with using_a_run(store, WRITING):
        upgrade = asyncio.create_task(upgraded(dsn))
        await until_waiting(store, "CREATE INDEX CONCURRENTLY")
        await store.pool.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE query LIKE 'CREATE INDEX CONCURRENTLY%' AND datname = current_database()"
        )
        with pytest.raises(StorageUnavailable):
            await upgrade
    assert not await store.pool.fetchval("SELECT bool_and(indisvalid) FROM pg_index")
    assert (await upgraded(dsn)).applied == (INDEX.name,)
    assert await store.pool.fetchval("SELECT bool_and(indisvalid) FROM pg_index")


async def test_writers_go_on_behind_an_upgrade_that_waits_for_a_reader(dsn, store, pending, monkeypatch):
    monkeypatch.setattr(online, "LOCK_TIMEOUT_MS", 100)
    pending(COLUMN)
    async with using_a_run(store, "SELECT FROM wafer_data.run"):
        upgrade = asyncio.create_task(upgraded(dsn))
        await until_waiting(store, "ALTER TABLE")
        async with asyncio.timeout(30):
            for number in range(10):
                await store.writer.write(runs(ended(number)))
        assert not upgrade.done()
    assert (await upgrade).applied == (COLUMN.name,)


async def test_an_upgrade_that_waits_for_too_long_says_for_what(dsn, store, pending, monkeypatch):
    monkeypatch.setattr(online, "LOCK_TIMEOUT_MS", 10)
    monkeypatch.setattr(migrate, "PATIENCE_S", 0.0)
    pending(COLUMN)
    async with using_a_run(store, "SELECT FROM wafer_data.run"):
        with pytest.raises(StorageUnavailable, match=f"{COLUMN.name} now: a session uses the table"):
            await upgraded(dsn)


async def test_a_writer_goes_on_when_runs_get_another_column(dsn, store, pending, monkeypatch):
    """Its session staged runs in a table of the older shape."""
    files = [file._replace(sql=file.sql.replace(RULE, f"{RULE} max(shift) AS shift,")) for file in migrate.idempotent()]
    monkeypatch.setattr(migrate, "idempotent", lambda: files)
    shape = (
        "SELECT array_agg(attname ORDER BY attnum) FROM pg_attribute "
        "WHERE attrelid = to_regclass('pg_temp.run_delta') AND attnum > 0"
    )
    async with asyncpg.create_pool(dsn, min_size=1, max_size=1, init=codecs.register, server_settings=SETTINGS) as session:
        writer = Writer(session)
        await writer.write(runs(run(1)))
        before = await session.fetchval(shape)
        pending(COLUMN)
        await upgraded(dsn)
        for _ in range(2):
            await writer.write(runs(ended(1), ended(2), run(3)))
        assert await session.fetchval(shape) == [*before, "shift"]
        assert await store.pool.fetchval("SELECT array_agg(shift ORDER BY span_id) FROM wafer_data.run") == [None, None]
        assert await store.pool.fetchval("SELECT count(*) FROM wafer_data.run_open") == 1


async def test_writers_are_given_the_right_to_make_temporary_tables(dsn, store):
    name = await store.pool.fetchval("SELECT quote_ident(current_database())")
    await store.pool.execute(f"REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC")
    async with on_postgres(dsn, role="wafer_writer") as writing:
        with pytest.raises(StorageUnavailable, match="right: run `wafer storage migrate`"):
            await writing.writer.write(runs(run(1)))
        await upgraded(dsn)
        await writing.writer.write([Batch(runs=[run(1)], feeds=[feed_beat()])])


async def test_who_may_not_give_that_right_is_told_who_may(postgres):
    dsn = postgres.database()
    name = dsn.partition("?")[0].rpartition("/")[2]
    await upgraded(dsn)
    postgres.psql(
        f'REVOKE TEMPORARY ON DATABASE "{name}" FROM PUBLIC; DROP ROLE IF EXISTS mender; '
        "CREATE ROLE mender LOGIN PASSWORD 'mender'; GRANT wafer_owner, wafer_writer, wafer_reader TO mender"
    )
    async with open_session(postgres.login(dsn, "mender", "mender")) as connection:
        with pytest.raises(StorageRejected, match=f"owner of the database say `GRANT TEMPORARY ON DATABASE {name} TO wafer"):
            await migrate.upgrade(connection)
