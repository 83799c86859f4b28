"""The schema: built once from nothing or step by step, never from edited files, by one upgrader at a time."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from importlib import resources
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.servers import postgres as server
from tests.storage.tables import TABLES
from wafermonitor.storage.config import Config
from wafermonitor.storage.connect import connect
from wafermonitor.storage.errors import SchemaTooNew, SchemaTooOld, StorageRejected, StorageUnavailable
from wafermonitor.storage.timescale import migrate
from wafermonitor.storage.timescale.session import open_session

pytestmark = pytest.mark.postgres

CATALOG = (Path(__file__).parent / "catalog.sql").read_text()


@pytest.fixture
async def empty(postgres: server.Server) -> AsyncIterator[asyncpg.Connection]:
    """A connection to an empty database."""
    async with open_session(postgres.database()) as connection:
        yield connection


async def _catalog(connection: asyncpg.Connection) -> list[str]:
    return [row[0] for row in await connection.fetch(CATALOG)]


async def test_fresh_database_has_exactly_the_tables_of_the_design(empty: asyncpg.Connection) -> None:
    done = await migrate.upgrade(empty)
    assert done.applied == tuple(file.name for file in migrate.incremental())
    assert done.idempotent
    rows = await empty.fetch(
        "SELECT relname FROM pg_class "
        "WHERE relnamespace = 'wafer_data'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition"
    )
    assert sorted(row[0] for row in rows) == TABLES


async def test_second_upgrade_has_nothing_to_do_and_changes_nothing(empty: asyncpg.Connection) -> None:
    await migrate.upgrade(empty)
    before = await _catalog(empty)
    assert await migrate.upgrade(empty) == migrate.Done((), idempotent=False)
    assert await _catalog(empty) == before


async def test_replayed_one_by_one_equals_fresh(
    empty: asyncpg.Connection, postgres: server.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrate.upgrade(empty)
    files, views = migrate.incremental(), migrate.idempotent()
    partitions = tuple(file for file in views if file.name == "partitions.sql")
    async with open_session(postgres.database()) as replayed:
        # Each release in turn; views and functions are written for the newest tables only.
        monkeypatch.setattr(migrate, "idempotent", lambda: partitions)
        for count in range(1, len(files) + 1):
            monkeypatch.setattr(migrate, "incremental", lambda count=count: files[:count])
            await migrate.upgrade(replayed)
        monkeypatch.setattr(migrate, "idempotent", lambda: views)
        await migrate.upgrade(replayed)
        assert await _catalog(replayed) == await _catalog(empty)


async def test_idempotent_files_run_again_when_one_changed(empty: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    await migrate.upgrade(empty)
    before = await _catalog(empty)
    changed = (*migrate.idempotent(), migrate.File("zz.sql", "COMMENT ON SCHEMA wafer IS 'changed'"))
    monkeypatch.setattr(migrate, "idempotent", lambda: changed)
    with pytest.raises(SchemaTooOld, match="wafer storage migrate"):
        await migrate.check(empty)
    assert await migrate.upgrade(empty) == migrate.Done((), idempotent=True)
    await migrate.check(empty)
    assert await _catalog(empty) == before


def test_every_migration_is_frozen() -> None:
    folder = resources.files("wafermonitor.storage.timescale") / "sql"
    frozen = [line.split() for line in (folder / "frozen.txt").read_text().splitlines() if not line.startswith("#")]
    shipped = [
        [hashlib.sha256(path.read_bytes()).hexdigest(), path.name]
        for path in sorted((folder / "incremental").iterdir(), key=lambda path: path.name)
    ]
    assert frozen == shipped


def test_edited_migration_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    name = migrate.incremental()[0].name
    migrate.incremental.cache_clear()
    monkeypatch.setattr(migrate, "_frozen", lambda: iter([(name, "0" * 64)]))
    try:
        with pytest.raises(StorageRejected, match=f"{name} is not what frozen.txt says"):
            migrate.incremental()
    finally:
        migrate.incremental.cache_clear()


def test_misnamed_migration_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    migrate.incremental.cache_clear()
    monkeypatch.setattr(migrate, "_files", lambda _folder: iter([migrate.File("2_add_column.sql", "SELECT 1")]))
    try:
        with pytest.raises(StorageRejected, match="NNNN"):
            migrate.incremental()
    finally:
        migrate.incremental.cache_clear()


async def test_database_that_ran_another_file_of_the_same_name_is_refused(empty: asyncpg.Connection) -> None:
    await migrate.upgrade(empty)
    await empty.execute("UPDATE wafer_data.schema_migration SET sha256 = 'other' WHERE name <> 'idempotent'")
    with pytest.raises(StorageRejected, match="ran another"):
        await migrate.upgrade(empty)


async def test_older_schema_is_refused_and_the_way_out_is_named(postgres: server.Server) -> None:
    dsn = postgres.database()
    with pytest.raises(SchemaTooOld, match=r"0001_.*wafer storage migrate"):
        await connect(Config.load(dsn=dsn))
    store = await connect(Config.load(dsn=dsn), migrate=True)
    await store.close()
    store = await connect(Config.load(dsn=dsn))
    await store.close()


async def test_later_release_is_accepted(empty: asyncpg.Connection) -> None:
    await migrate.upgrade(empty)
    await empty.execute("UPDATE wafer_data.schema_migration SET sha256 = 'later', release = '99.0.0' WHERE name = 'idempotent'")
    await empty.execute("INSERT INTO wafer_data.schema_migration VALUES ('9999_pre_add_column.sql', 'later', '99.0.0')")
    await migrate.check(empty)
    assert (await migrate.status(empty)).applied[-1] == "9999_pre_add_column.sql"


async def test_release_that_took_away_what_this_one_needs_is_refused_and_named(empty: asyncpg.Connection) -> None:
    await migrate.upgrade(empty)
    await empty.execute("INSERT INTO wafer_data.schema_migration VALUES ('9998_post_drop_column.sql', 'later', '99.1.0')")
    for attempt in (migrate.check, migrate.upgrade):
        with pytest.raises(SchemaTooNew, match=r"by WaferMonitor 99\.1\.0 \(9998_post_drop_column\.sql\).*install 99\.1\.0"):
            await attempt(empty)


async def test_many_upgraders_at_once_do_the_work_once(postgres: server.Server) -> None:
    dsn = postgres.database()

    async def one() -> migrate.Done:
        async with open_session(dsn) as connection:
            return await migrate.upgrade(connection)

    done = await asyncio.gather(*(one() for _ in range(5)))
    assert sorted(len(each.applied) for each in done) == [0, 0, 0, 0, len(migrate.incremental())]
    assert sum(each.idempotent for each in done) == 1


async def test_upgrades_of_two_databases_of_one_server_do_not_collide_over_roles(postgres: server.Server) -> None:
    async def one(dsn: str) -> None:
        async with open_session(dsn) as connection:
            await migrate.upgrade(connection)

    await asyncio.gather(*(one(postgres.database()) for _ in range(3)))


async def test_failed_file_leaves_nothing_and_the_next_upgrade_goes_on(
    empty: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = migrate.incremental()
    broken = migrate.File("0900_pre_break_everything.sql", "CREATE TABLE wafer_data.half (i int); SELECT 1 / 0")
    with monkeypatch.context() as patch:
        patch.setattr(migrate, "incremental", lambda: (*files, broken))
        with pytest.raises(asyncpg.DivisionByZeroError):
            await migrate.upgrade(empty)
    assert await empty.fetchval("SELECT to_regclass('wafer_data.half')") is None
    assert await migrate.upgrade(empty) == migrate.Done((), idempotent=True)


async def test_fresh_database_can_be_written_at_once(empty: asyncpg.Connection) -> None:
    await migrate.upgrade(empty, hot_days=3)
    oldest, newest, now = await empty.fetchrow("SELECT oldest, newest, now() FROM wafer_data.hot_window()")
    assert (now - oldest).days == 3
    assert (newest - now).days == 7


async def test_roles_may_do_what_they_are_for_and_no_more(empty: asyncpg.Connection) -> None:
    await migrate.upgrade(empty)

    async def may(role: str, sql: str) -> bool:
        await empty.execute(f"SET ROLE {role}")
        try:
            await empty.execute(sql)
        except asyncpg.InsufficientPrivilegeError:
            return False
        finally:
            await empty.execute("RESET ROLE")
        return True

    read, write = "SELECT * FROM wafer_data.span", "INSERT INTO wafer_data.site (name) VALUES ('fab')"
    partitions = "SELECT wafer_data.keep_partitions(current_date, current_date, current_date)"
    make = "CREATE TABLE wafer_data.mine (i int)"
    assert [await may("wafer_reader", sql) for sql in (read, write, partitions, make)] == [True, False, False, False]
    assert [await may("wafer_writer", sql) for sql in (read, write, partitions, make)] == [True, True, True, False]
    assert await may("wafer_owner", make)
    owners = await empty.fetch(
        "SELECT DISTINCT relowner::regrole::text FROM pg_class "
        "WHERE relnamespace IN ('wafer'::regnamespace, 'wafer_data'::regnamespace)"
    )
    assert [row[0] for row in owners] == ["wafer_owner"]


async def test_account_that_may_not_create_is_told_so(postgres: server.Server) -> None:
    dsn = postgres.database()
    postgres.psql("DROP ROLE IF EXISTS visitor; CREATE ROLE visitor LOGIN PASSWORD 'visitor'")
    parts = urlsplit(dsn)
    async with open_session(f"postgresql://visitor:visitor@127.0.0.1:{parts.port}{parts.path}") as connection:
        with pytest.raises(StorageRejected, match="may not upgrade the schema"):
            await migrate.upgrade(connection)


@pytest.fixture
def bare() -> Iterator[server.Server]:
    """A server of its own, that has none of the roles yet."""
    own = server.start()
    yield own
    own.stop()


async def test_account_that_may_make_roles_and_schemas_upgrades_without_being_superuser(bare: server.Server) -> None:
    """From PostgreSQL 16 on whoever makes a role may give it away, but is at first not allowed to act as it."""
    dsn = bare.database()
    bare.psql("CREATE ROLE deployer LOGIN CREATEROLE PASSWORD 'deployer'; CREATE ROLE member LOGIN PASSWORD 'member'")
    bare.psql(f'GRANT CREATE ON DATABASE "{urlsplit(dsn).path[1:]}" TO deployer')
    async with open_session(bare.login(dsn, "deployer", "deployer")) as connection:
        assert (await migrate.upgrade(connection)).idempotent
        assert await migrate.upgrade(connection) == migrate.Done((), idempotent=False)
        await connection.execute("GRANT wafer_owner TO member")
    bare.psql("DELETE FROM wafer_data.schema_migration WHERE name = 'idempotent'", dsn)
    async with open_session(bare.login(dsn, "member", "member")) as connection:
        assert await migrate.upgrade(connection) == migrate.Done((), idempotent=True)


async def test_account_that_may_not_act_as_the_owner_is_told_what_to_ask_for(bare: server.Server) -> None:
    dsn = bare.migrated()
    bare.psql("CREATE ROLE stranger LOGIN PASSWORD 'stranger'")
    async with open_session(bare.login(dsn, "stranger", "stranger")) as connection:
        with pytest.raises(StorageRejected, match="GRANT wafer_owner TO"):
            await migrate.upgrade(connection)


async def test_nobody_answering_is_unavailable_and_names_no_address(postgres: server.Server) -> None:
    dsn = postgres.dsn.replace(f":{postgres.port}/", ":1/")
    with pytest.raises(StorageUnavailable) as caught:
        await connect(Config.load(dsn=dsn))
    assert postgres.folder.password() not in str(caught.value)


async def test_address_that_is_none_is_rejected() -> None:
    with pytest.raises(StorageRejected, match="no usable address"):
        await connect(Config.load(dsn="postgresql://127.0.0.1:notaport/wafer"))
