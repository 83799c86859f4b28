"""Plain tables become hypertables while they are used, and nothing that happens meanwhile loses or doubles a row."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import asyncpg
import pytest

from tests.servers import timescaledb
from tests.servers.databases import Databases
from tests.storage.contract.builders import DAY, NOW, SECOND, digest, log, point, span, trace_id
from tests.storage.engines import Engine, on_postgres
from wafermonitor.runs.records import Batch
from wafermonitor.storage.errors import StorageRejected, StorageUnavailable
from wafermonitor.storage.protocol import SpanQuery
from wafermonitor.storage.timescale import convert, ddl, inspection, migrate
from wafermonitor.storage.timescale.session import open_session
from wafermonitor.storage.timescale.writer import Writer

pytestmark = pytest.mark.servers
CATALOG = (Path(__file__).parents[1] / "catalog.sql").read_text()
BY_DAY = ("span", "log_record", "metric_point")
LATE = ("span_late", "log_late", "metric_late")
THEIRS = """
CREATE VIEW public.theirs AS SELECT name FROM wafer_data.span;
CREATE VIEW wafer.ours AS SELECT name FROM wafer_data.span;
CREATE VIEW public.through_ours AS SELECT name FROM wafer.ours;
CREATE FUNCTION public.sizes() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM wafer_data.metric_point; END;
CREATE TABLE public.noted (
  trace_id uuid, span_id bigint, start_time timestamptz, site_id smallint, start_ns smallint,
  CONSTRAINT theirs FOREIGN KEY (trace_id, span_id, start_time, site_id, start_ns)
    REFERENCES wafer_data.span (trace_id, span_id, start_time, site_id, start_ns)
);
CREATE FUNCTION public.see() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER theirs AFTER INSERT ON wafer_data.span FOR EACH ROW EXECUTE FUNCTION public.see();
CREATE POLICY theirs ON wafer_data.log_record USING (true);
CREATE PUBLICATION theirs FOR TABLE wafer_data.log_record;
CREATE EXTENSION timescaledb;
"""
COMMAND = (sys.executable, "-m", "wafermonitor.instrumentation.cli", "storage", "convert", "--json", "--batch-pages", "1")


@pytest.fixture(scope="module")
def server() -> Iterator[Databases]:
    """A server with TimescaleDB: the one that was given, else Debian's."""
    given = timescaledb.missing_given() is None and os.environ.get("WAFER_TEST_STORE") == "community"
    if not given and (why := timescaledb.missing()) is not None:
        pytest.skip(why)
    running = timescaledb.given() if given else timescaledb.start()
    yield running
    running.stop()


@asynccontextmanager
async def plain_store(server: Databases) -> AsyncIterator[tuple[str, Engine]]:
    """A database with the schema and without the extension, and the engine on it."""
    dsn = server.database()
    async with open_session(dsn) as connection:
        await migrate.upgrade(connection)
    async with on_postgres(dsn) as store:
        yield dsn, store
    server.drop(dsn)


def batch_of(number: int, size: int = 40) -> Batch:
    """A batch with spans, lines and values on today and the three days before."""
    times = [NOW - (place % 4) * DAY - number * SECOND - place for place in range(size)]
    return Batch(
        spans=[span(place, trace_id=trace_id(number), start_ns=at) for place, at in enumerate(times)],
        logs=[log(place, digest=digest(number, place), time_ns=at) for place, at in enumerate(times)],
        points=[point(place, time_ns=at) for place, at in enumerate(times)],
    )


async def stored(store: Engine) -> list[int]:
    """How many rows the six tables hold together, table by table."""
    return [
        await store.pool.fetchval(f"SELECT (SELECT count(*) FROM wafer_data.{hot}) + (SELECT count(*) FROM wafer_data.{late})")
        for hot, late in zip(BY_DAY, LATE, strict=True)
    ]


async def read(store: Engine, batches: int) -> int:
    """How many spans the reader finds."""
    return sum([len((await store.reader.spans(SpanQuery(trace_id=trace_id(n), limit=1000))).items) for n in range(batches)])


async def to_the_end(dsn: str) -> convert.Done:
    async with open_session(dsn) as connection:
        return await convert.convert(connection, lambda progress: None)


async def native(store: Engine) -> list[str]:
    return [row[0] for row in await store.pool.fetch("SELECT name FROM wafer_data.day_table WHERE NOT is_hypertable")]


async def test_without_the_extension_it_says_what_is_to_be_done(server: Databases) -> None:
    async with plain_store(server) as (dsn, _):
        with pytest.raises(StorageRejected, match="CREATE EXTENSION timescaledb"):
            await to_the_end(dsn)


async def test_a_plan_changes_nothing(server: Databases) -> None:
    async with plain_store(server) as (dsn, store):
        await store.writer.write([batch_of(0)])
        server.psql("CREATE EXTENSION timescaledb", dsn)
        async with open_session(dsn) as connection:
            plan = await convert.plan(connection)
        assert plan.tables == ("span", "metric_point", "log_record")
        assert len(plan.parts) == 4 * len(BY_DAY)
        assert plan.parts[0].day > plan.parts[-1].day
        assert len(await native(store)) == len(BY_DAY)


async def test_every_row_is_there_before_and_after_and_the_schema_is_that_of_a_new_database(server: Databases) -> None:
    async with plain_store(server) as (dsn, store):
        for number in range(5):
            await store.writer.write([batch_of(number)])
        before, spans = await stored(store), await read(store, 5)
        server.psql("CREATE EXTENSION timescaledb", dsn)
        window = await store.pool.fetchrow("SELECT * FROM wafer_data.hot_window()")
        done = await to_the_end(dsn)
        assert (done.tables, done.days, done.rows) == (("span", "metric_point", "log_record"), 12, sum(before))
        assert (await stored(store), await read(store, 5)) == (before, spans)
        assert await store.pool.fetchrow("SELECT * FROM wafer_data.hot_window()") == window
        assert await native(store) == []
        assert await store.pool.fetchval("SELECT count(*) FROM ONLY wafer_data.span_late") == 0
        assert await to_the_end(dsn) == convert.Done((), 0, 0)
        # What was stored stays stored once, also when it comes again.
        await Writer(store.pool).write([batch_of(number) for number in range(5)])
        assert await stored(store) == before
        made = server.migrated()
        async with open_session(made) as fresh:
            assert await store.pool.fetch(CATALOG) == await fresh.fetch(CATALOG)
        server.drop(made)


async def test_the_files_for_psql_make_what_migrate_makes(server: Databases) -> None:
    by_psql, by_migrate = server.extended(), server.migrated()
    for text in (ddl.schema(3), ddl.enhancements(3)):
        server.psql(text, by_psql)
    async with open_session(by_psql) as one, open_session(by_migrate) as other:
        assert await one.fetch(CATALOG) == await other.fetch(CATALOG)
        assert await migrate.status(one) == await migrate.status(other)
    for dsn in (by_psql, by_migrate):
        server.drop(dsn)


async def test_check_names_what_is_still_to_be_converted(server: Databases) -> None:
    async with plain_store(server) as (dsn, store), open_session(dsn) as connection:

        async def found() -> tuple[str, str]:
            finding = {finding.name: finding for finding in await inspection.inspect(connection, None)}["hypertables"]
            return finding.level, finding.text

        await store.writer.write([batch_of(0)])
        assert await found() == ("ok", "none is wanted")
        server.psql("CREATE EXTENSION timescaledb", dsn)
        assert await found() == ("warn", "span, metric_point, log_record could be hypertables: run `wafer storage convert`")
        await migrate.make_hypertables(connection)
        assert await found() == ("warn", "12 days are still to be moved: run `wafer storage convert` again")
        await convert.convert(connection, lambda progress: None)
        assert await found() == ("ok", "all days are in hypertables")


async def test_what_a_killed_conversion_leaves_is_read_as_before_and_finished_by_the_next(server: Databases) -> None:
    """kill -9 at many points, with a writer that sends everything twice and a reader beside it."""
    async with plain_store(server) as (dsn, store):
        for number in range(50):
            await store.writer.write([batch_of(number)])
        server.psql("CREATE EXTENSION timescaledb", dsn)
        written = 50
        stop = asyncio.Event()

        async def write() -> None:
            nonlocal written
            writer = Writer(store.pool)
            while not stop.is_set():
                for batch in (batch_of(written), batch_of(written), batch_of(written % 50)):
                    await _insist(writer, batch)
                written += 1
                assert await read(store, 3) == 120

        writing = asyncio.create_task(write())
        killed = 0
        async with asyncio.timeout(100):
            for rows in (0, 1, 300, 300, 1000):
                killed += await _kill_after(dsn, store, rows)
            done = await to_the_end(dsn)
        stop.set()
        await writing
        assert killed == 5
        assert done.rows > 0
        assert await read(store, written) == 40 * written
        # Nothing was stored twice: hot and late tables together have each row once.
        assert (await stored(store))[:2] == [40 * written, 40 * written]
        assert await store.pool.fetchval("SELECT count(*) FROM wafer_data.unmoved_partition") == 0


async def _insist(writer: Writer, batch: Batch) -> None:
    """As a Collector does: the moment in which a table changes is worth another try."""
    while True:
        with suppress(StorageUnavailable):
            return await writer.write([batch])


async def _kill_after(dsn: str, store: Engine, rows: int) -> bool:
    """Start the command and kill it when it has moved so many rows, or changed a table; whether it was still at it."""
    before = await _left(store)
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        env=os.environ | {"WAFER_STORAGE_DSN": dsn},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    while process.returncode is None and (await _left(store) > before - rows or len(await native(store)) == len(BY_DAY)):
        await asyncio.sleep(0)
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGKILL)
    return await process.wait() == -signal.SIGKILL


async def _left(store: Engine) -> int:
    """Rows that stand in native partitions."""
    counts = [
        await store.pool.fetchval(f"SELECT count(*) FROM wafer_data.{hot if hot in await native(store) else late}")
        for hot, late in zip(BY_DAY, LATE, strict=True)
    ]
    return sum(counts)


async def test_a_server_that_is_killed_under_a_conversion_loses_nothing(server: Databases) -> None:
    if not isinstance(server, timescaledb.Server):
        pytest.skip("the server is not ours to kill")
    async with plain_store(server) as (dsn, store):
        for number in range(10):
            await store.writer.write([batch_of(number)])
        before = await stored(store)
        server.psql("CREATE EXTENSION timescaledb", dsn)

        def kill(progress: convert.Progress) -> None:
            if progress.total > 500:
                server.kill()

        with pytest.raises(StorageUnavailable):
            async with open_session(dsn) as connection:
                await convert.convert(connection, kill, batch_pages=1)
        server.restart()
        assert (await to_the_end(dsn)).rows < sum(before)
        assert await stored(store) == before


async def test_it_waits_for_no_reader_and_makes_no_writer_wait_behind_it(server: Databases, monkeypatch) -> None:
    monkeypatch.setattr(convert, "_LOCK_TIMEOUT", "50ms")
    monkeypatch.setattr(convert, "_PAUSE_S", 0.05)
    monkeypatch.setattr(convert, "_ATTEMPTS", 3)
    async with plain_store(server) as (dsn, store):
        server.psql("CREATE EXTENSION timescaledb", dsn)
        async with store.pool.acquire() as reader, reader.transaction():
            await reader.execute("SELECT FROM wafer_data.span")
            with pytest.raises(StorageUnavailable, match="the next call goes on"):
                await to_the_end(dsn)
        assert len((await to_the_end(dsn)).tables) > 0


async def test_what_others_made_on_the_tables_is_named_and_kept(server: Databases) -> None:
    async with plain_store(server) as (dsn, _):
        server.psql(THEIRS, dsn)
        with pytest.raises(StorageRejected, match="need the tables that are made anew") as refused:
            await to_the_end(dsn)
        assert str(refused.value).split(": these")[0].split(", ") == [
            "function public.sizes()",
            "policy theirs on wafer_data.log_record",
            "publication relation wafer_data.log_record in publication theirs",
            "table constraint theirs on public.noted",
            "trigger theirs on wafer_data.span",
            "view public.theirs",
            "view public.through_ours",
        ]
        with pytest.raises(RuntimeError, match=r"view public\.theirs.* would be dropped with wafer_data\.span"):
            server.psql("SELECT wafer_data.make_hypertable('span')", dsn)
        assert server.psql("SELECT count(*) FROM theirs", dsn) == "0"


async def test_rights_that_were_given_are_kept(server: Databases) -> None:
    async with plain_store(server) as (dsn, _):
        server.psql("DROP ROLE IF EXISTS grafana; CREATE ROLE grafana; GRANT SELECT ON wafer_data.span TO grafana", dsn)
        server.psql("CREATE EXTENSION timescaledb", dsn)
        await to_the_end(dsn)
        assert server.psql("SELECT has_table_privilege('grafana', 'wafer_data.span', 'SELECT')", dsn) == "t"


async def test_two_at_once_do_not_get_into_each_others_way(server: Databases) -> None:
    async with plain_store(server) as (dsn, _):
        server.psql("CREATE EXTENSION timescaledb", dsn)
        async with open_session(dsn) as other:
            await other.execute("SELECT pg_advisory_lock($1)", convert.LOCK)
            with pytest.raises(StorageRejected, match="another process is converting"):
                await to_the_end(dsn)


async def test_the_command_says_what_it_did(server: Databases) -> None:
    async with plain_store(server) as (dsn, store):
        await store.writer.write([batch_of(0)])
        server.psql("CREATE EXTENSION timescaledb", dsn)

        def said(*words: str) -> str:
            return subprocess.run(
                words, env=os.environ | {"WAFER_STORAGE_DSN": dsn}, capture_output=True, text=True, check=True
            ).stdout

        stated = said(*COMMAND[:4], "status")
        assert "(apache, to be used: wafer storage convert)" in stated.replace("community", "apache")
        planned = json.loads(said(*COMMAND, "--dry-run"))
        assert planned["tables"] == ["span", "metric_point", "log_record"]
        assert len(planned["days"]) == 12
        assert json.loads(said(*COMMAND)) == {"tables": ["span", "metric_point", "log_record"], "days": 12, "rows": 120}
        assert json.loads(said(*COMMAND, "--dry-run")) == {"tables": [], "days": []}


async def test_an_upgrade_makes_an_index_of_a_hypertable_and_finishes_what_was_half_made(
    server: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = server.migrated()
    names = migrate.File(
        "0900_post_index_names.sql",
        "-- outside a transaction\nCREATE INDEX CONCURRENTLY span_name ON wafer_data.span (name, start_time) WHERE kind = 1;\n",
    )
    async with on_postgres(made) as store, open_session(made) as connection:
        await store.writer.write([batch_of(0)])
        files = migrate.incremental()
        monkeypatch.setattr(migrate, "incremental", lambda: (*files, names))
        assert (await migrate.upgrade(connection)).applied == (names.name,)
        definition = "SELECT pg_get_indexdef('wafer_data.span_name'::regclass)"
        assert "(name, start_time) WHERE (kind = 1)" in await connection.fetchval(definition)
        await connection.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'wafer_data.span_name'::regclass")
        await connection.execute("DELETE FROM wafer_data.schema_migration WHERE name = $1", names.name)
        assert (await migrate.upgrade(connection)).applied == (names.name,)
        valid = (
            "SELECT count(*) FILTER (WHERE indisvalid) FROM pg_index i JOIN pg_class c ON c.oid = indexrelid "
            "WHERE relname ~ 'span_name'"
        )
        assert await connection.fetchval(valid) == 5  # the table's, and that of each of its four chunks
    server.drop(made)


async def test_a_clock_that_is_years_off_makes_no_chunk(server: Databases) -> None:
    dsn = server.migrated()
    async with on_postgres(dsn) as store:
        await store.writer.write([Batch(spans=[span(1, start_ns=NOW), span(2, start_ns=NOW + 900 * DAY), span(3, start_ns=0)])])
        chunks = await store.pool.fetchval("SELECT count(*) FROM timescaledb_information.chunks WHERE hypertable_name = 'span'")
        assert (chunks, await store.pool.fetchval("SELECT count(*) FROM wafer_data.span_late")) == (1, 2)
    server.drop(dsn)


async def test_a_run_whose_start_is_not_known_has_no_chunk_to_go_to(server: Databases) -> None:
    """Why `run` stays on PostgreSQL's own partitions."""
    dsn = server.migrated()
    async with open_session(dsn) as connection:
        await connection.execute("CREATE TABLE starts (start_time timestamptz NOT NULL)")
        await connection.execute("SELECT create_hypertable('starts', by_range('start_time'))")
        with pytest.raises(asyncpg.PostgresError, match="out of range"):
            await connection.execute("INSERT INTO starts VALUES ('-infinity')")
    server.drop(dsn)


@pytest.mark.parametrize("kind", ["plain", "extended"])
async def test_a_day_can_be_dropped_on_every_tier(server: Databases, kind: str) -> None:
    dsn = server.migrated() if kind == "extended" else server.database()
    async with open_session(dsn) as connection:
        await migrate.upgrade(connection)
    async with on_postgres(dsn) as store:
        await store.writer.write([batch_of(0)])
        day = await store.pool.fetchval("SELECT min(start_time)::date FROM wafer_data.span")
        dropped = [await store.pool.fetchval("SELECT wafer_data.drop_day($1, $2)", name, day) for name in BY_DAY]
        assert dropped == [True] * 3
        assert await store.pool.fetchval("SELECT wafer_data.drop_day('span', $1)", day) is False
        assert await stored(store) == [30, 30, 30]
        assert await store.pool.fetchval("SELECT oldest::date FROM wafer_data.hot_window()") > day
        # What comes of it from now on is late.
        await Writer(store.pool).write([batch_of(0)])
        assert await store.pool.fetchval("SELECT count(*) FROM wafer_data.span_late") == 10
    server.drop(dsn)
