"""What an operator does to a store now and then: every command answers, refuses what it must, and changes only what it says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.servers import postgres as server
from tests.servers.databases import Databases
from tests.storage.conftest import FAST
from tests.storage.contract import builders
from tests.storage.engines import on_postgres
from wafermonitor.instrumentation.cli import main
from wafermonitor.runs.records import Batch
from wafermonitor.storage.command import storage
from wafermonitor.storage.config import Config
from wafermonitor.storage.errors import CursorRejected, StorageRejected
from wafermonitor.storage.timescale import backup, embedded, inspection, migrate, rollups, tuning
from wafermonitor.storage.timescale.session import open_session

pytestmark = pytest.mark.postgres
GIB = 1024**3
PG_BIN = Path(os.environ["WAFER_STORAGE_PG_BIN"]) if os.environ.get("WAFER_STORAGE_PG_BIN") else None
"""Another version's programs; tests that start a store see no such setting."""
GO_ON = "DO $$ BEGIN FOR i IN 1..3000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$"
CATALOG = (Path(__file__).parent / "catalog.sql").read_text()


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WAFER_CONFIG", "DATABASE_URL", *(f"WAFER_STORAGE_{field.upper()}" for field in Config.model_fields)):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def _run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(storage, [*words], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.return_value or 0, done.stdout


def _answer(*words: str) -> dict[str, object]:
    return json.loads(_run(*words, "--json")[1])


def _findings(answer: dict[str, object]) -> dict[str, tuple[str, str]]:
    return {finding["name"]: (finding["level"], finding["text"]) for finding in answer["findings"]}  # type: ignore[attr-defined]


async def test_a_store_that_is_kept_has_nothing_to_mend(postgres: Databases) -> None:
    async with open_session(postgres.migrated()) as connection:
        found = {finding.name: finding for finding in await inspection.inspect(connection, Path("/"))}
    bad = [name for name, finding in found.items() if finding.level is inspection.Level.FAIL]
    assert set(bad) <= {"fsync", "full_page_writes", "disk"}  # the tests' server does without
    for name in ("schema", "tier", "days", "strays", "indexes", "hypertables", "transactions", "transaction numbers"):
        assert found[name].level is inspection.Level.OK, found[name]


async def test_each_kind_of_trouble_is_found_and_its_cure_named(postgres: Databases) -> None:
    async with open_session(postgres.migrated()) as connection:
        await connection.execute(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'wafer_data.run_open_key'::regclass"
        )
        await connection.execute(
            "DROP TABLE wafer_data.span_late CASCADE; CREATE TABLE wafer_data.span_late (LIKE wafer_data.span)"
        )
        await connection.execute("ALTER TABLE wafer_data.span DETACH PARTITION wafer_data.span_default")
        await connection.execute(
            "DO $$ DECLARE p regclass; BEGIN FOR p IN SELECT inhrelid::regclass FROM pg_inherits "
            "WHERE inhparent = 'wafer_data.log_record'::regclass LOOP EXECUTE format('DROP TABLE %s', p); END LOOP; END $$"
        )
        found = {finding.name: finding for finding in await inspection.inspect(connection, None)}
    assert found["indexes"].level is inspection.Level.FAIL
    assert "run_open_key" in found["indexes"].text
    assert found["days"].level is inspection.Level.FAIL
    assert "wafer storage" in found["days"].text


async def test_a_row_in_a_default_partition_is_found(postgres: Databases) -> None:
    dsn = postgres.migrated()
    async with on_postgres(dsn) as store:
        await store.writer.write([Batch(spans=[builders.span()])])
        await store.pool.execute("UPDATE wafer_data.span SET start_time = start_time + interval '1 year'")
    async with open_session(dsn) as connection:
        found = {finding.name: finding for finding in await inspection.inspect(connection, None)}
    assert (found["strays"].level, "span_default" in found["strays"].text) == (inspection.Level.FAIL, True)


async def test_late_rows_that_nobody_can_read_are_counted(postgres: Databases) -> None:
    dsn = postgres.migrated()
    async with on_postgres(dsn) as store:
        old = builders.NOW - 300 * builders.DAY
        await store.writer.write([Batch(spans=[builders.span(n, start_ns=old + n) for n in range(3)])])
        await store.writer.write([Batch(points=[builders.point(time_ns=old)])])
        async with open_session(dsn) as connection:
            found = {finding.name: finding for finding in await inspection.inspect(connection, None)}
            assert found["late rows"].level is inspection.Level.OK
            await connection.execute("DELETE FROM wafer_data.scope")
            found = {finding.name: finding for finding in await inspection.inspect(connection, None)}
    assert found["late rows"].level is inspection.Level.WARN
    assert "3 of span_late, 1 of metric_late refer to" in found["late rows"].text


async def test_an_old_transaction_is_found(postgres: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "_OLD_TRANSACTION_S", 0)
    dsn = postgres.migrated()
    async with open_session(dsn) as other, open_session(dsn) as connection, other.transaction():
        await other.execute("SELECT 1")
        found = {finding.name: finding for finding in await inspection.inspect(connection, None)}
    assert found["transactions"].level is inspection.Level.WARN


def test_check_fails_where_something_must_be_mended(
    postgres: server.Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WAFER_STORAGE_DSN", postgres.database())
    assert main(["storage", "check"]) == 1
    assert "fail schema: 0001_" in capsys.readouterr().out
    assert _findings(_answer("check"))["schema"][0] == "fail"


def test_the_embedded_store_is_in_order_and_its_disk_is_looked_at(home: Path) -> None:
    _run("migrate", "--data-dir", str(home))
    found = _findings(_answer("check", "--data-dir", str(home)))
    assert {name for name, (level, _) in found.items() if level == "fail"} <= {"disk"}
    assert "GiB free of" in found["disk"][1]


@pytest.mark.parametrize(
    ("memory", "disk", "buffers", "log"),
    [
        (GIB // 2, 4 * GIB, "128MB", "1024MB"),
        (16 * GIB, 512 * GIB, "4096MB", "32768MB"),
        (512 * GIB, 9000 * GIB, "16384MB", "65536MB"),
    ],
)
def test_settings_follow_the_host(memory: int, disk: int, buffers: str, log: str) -> None:
    made = {line.name: line for line in tuning.settings(tuning.Host(memory, 8, disk), timescaledb=True)}
    assert (made["shared_buffers"].value, made["max_wal_size"].value) == (buffers, log)
    assert made["max_parallel_workers"].value == "8"
    assert all(line.reason for line in made.values())


def test_a_server_starts_with_the_settings_and_has_them(tmp_path: Path) -> None:
    _, text = _run("tune", "--memory-gib", "0.5", "--processors", "2", "--disk-gib", "10")
    pairs = dict(line.split(" = ") for line in text.splitlines() if not line.startswith("#"))
    own = server.start(settings={name: value.strip("'") for name, value in pairs.items()})
    try:
        shown = own.psql("SELECT lower(name) FROM pg_settings WHERE source = 'command line'")
        assert set(pairs) <= set(shown.splitlines())
    finally:
        own.stop()


def test_tuning_names_what_it_was_sized_for(tmp_path: Path) -> None:
    facts = _answer("tune", "--memory-gib", "8", "--processors", "4", "--disk-gib", "100", "--data-dir", str(tmp_path))
    assert facts["host"] == {"memory_bytes": 8 * GIB, "processors": 4, "disk_bytes": 100 * GIB}
    assert len(facts["settings"]) > 20  # type: ignore[arg-type]


async def test_the_files_for_psql_make_what_migrate_makes(postgres: server.Server, tmp_path: Path) -> None:
    by_psql, by_migrate = postgres.database(), postgres.migrated()
    for part in ("schema", "enhancements"):
        _apply(postgres, by_psql, _run("ddl", part)[1], tmp_path / f"{part}.sql")
    async with open_session(by_psql) as one, open_session(by_migrate) as other:
        assert await one.fetch(CATALOG) == await other.fetch(CATALOG)
        assert await migrate.status(one) == await migrate.status(other)
        assert (await migrate.upgrade(one)).idempotent is False
        notes = "SELECT name, sha256, release FROM wafer_data.schema_migration ORDER BY name"
        assert await one.fetch(notes) == await other.fetch(notes)


def _apply(on: server.Server, dsn: str, text: str, file: Path) -> None:
    """As an administrator does it."""
    file.write_text(text)
    words = [on.program("psql"), "-Xq", "-v", "ON_ERROR_STOP=1", "-d", dsn, "-f", str(file)]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("database", ["postgres", "wafer"])
def test_every_file_for_psql_applies_as_it_stands(tmp_path: Path, database: str) -> None:
    """On a plain PostgreSQL too, where nobody knows the settings of the extension: 15 and 16 refuse such names."""
    own = server.start(PG_BIN)
    try:
        if database != "postgres":
            own.psql(f"CREATE DATABASE {database}")
        for part in ("schema", "enhancements", "configuration"):
            _apply(own, own.dsn_of(database), _run("ddl", part)[1], tmp_path / f"{part}.sql")
        own.end()
        own.restart()
        assert own.psql("SHOW max_locks_per_transaction; SHOW autovacuum_naptime") == "256\n15s"
        assert own.psql("SELECT count(*) FROM wafer.job_hourly_stats", own.dsn_of(database)) == "0"
    finally:
        own.stop()


def _move(old: server.Server, dsn: str, new: server.Server, target: str, folder: Path) -> None:
    """Roles, then one database. That the account which both servers were made with is there already is no fault."""
    for program, options, source, place, stop in (
        ("pg_dumpall", ["--roles-only", "--no-role-passwords"], old.dsn, new.dsn, 0),
        ("pg_dump", [], dsn, target, 1),
    ):
        with (folder / program).open("w") as file:
            subprocess.run([old.program(program), *options, "-d", source], check=True, stdout=file)
        words = [new.program("psql"), "-Xq", "-v", f"ON_ERROR_STOP={stop}", "-d", place, "-f", str(folder / program)]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


async def test_a_store_moved_to_a_new_server_by_pg_dump_tells_and_counts_each_run_once(tmp_path: Path) -> None:
    old, new = server.start(), server.start()
    try:
        # Far ahead of the other server's transactions.
        old.psql(GO_ON)
        dsn = old.migrated()
        async with on_postgres(dsn) as store:
            await store.writer.write(builders.runs(builders.run(1), builders.ended(2), builders.ended(3)))
            await rollups.run_once(store.pool)
            await store.writer.write(builders.runs(builders.ended(4)))
            old_token = (await store.reader.changes(None)).token
        moved = new.database()
        _move(old, dsn, new, moved, tmp_path)
        async with on_postgres(moved) as store:
            with pytest.raises(CursorRejected):
                await store.reader.changes(old_token)
            token = (await store.reader.changes(None)).token
            await store.writer.write(builders.runs(builders.ended(1), builders.ended(5)))
            changes = await store.reader.changes(token)
            assert sorted(stored.run.run_id for stored in changes.runs if stored.run.run_id) == ["run-1", "run-5"]
            for _ in range(2):
                await rollups.run_once(store.pool)
                assert (await store.reader.changes(changes.token)).runs == []
                ended = "SELECT sum(ended)::int FROM wafer_data.job_monthly WHERE dimension = 0"
                assert await store.pool.fetchval(ended) == 5
    finally:
        old.stop()
        new.stop()


def test_a_backup_is_taken_while_the_server_runs_and_restored_beside_it(home: Path, tmp_path: Path) -> None:
    target, again = home.parent / "copies" / "first", home.parent / "restored"
    made = _answer("backup", "--data-dir", str(home), str(target))
    assert made["path"] == str(target)
    assert int(str(made["size_bytes"])) > 10_000_000
    assert {path.name for path in target.iterdir()} == {"postgres", "postgres.password", "backup.json"}
    assert [path.stat().st_mode & 0o077 for path in (target, target / "postgres.password")] == [0, 0]

    restored = _answer("restore", "--data-dir", str(again), str(target))
    assert restored["data_dir"] == str(again)
    assert "kept" in _tables(again)
    with pytest.raises(StorageRejected, match="stays as it is"):
        _run("restore", "--data-dir", str(again), str(target))
    with pytest.raises(StorageRejected, match="stays as it is"):
        _run("backup", "--data-dir", str(home), str(target))


async def test_change_tokens_from_before_a_restore_are_refused_however_far_the_store_went_on_since(home: Path) -> None:
    """It is the same server to PostgreSQL, with the same numbers for other transactions."""
    target, again = home.parent / "copy", home.parent / "again"
    tokens = []
    running = await embedded.start(home, settings=FAST)
    try:
        async with open_session(running.dsn) as connection:
            await migrate.upgrade(connection)
        await backup.take(home, running.port, target, None, lambda _: None)
        async with on_postgres(running.dsn) as store:
            tokens.append((await store.reader.changes(None)).token)
    finally:
        await running.stop()
    await backup.restore(target, again, None, lambda _: None)
    for home_of_it in (again, again, home):
        running = await embedded.start(home_of_it, settings=FAST)
        try:
            async with on_postgres(running.dsn) as store:
                await store.pool.execute(GO_ON)
                if home_of_it == home:
                    assert (await store.reader.changes(tokens[0])).runs == []
                else:
                    with pytest.raises(CursorRejected, match="another database"):
                        await store.reader.changes(tokens[0])
                    tokens.append((await store.reader.changes(None)).token)
                    assert (await store.reader.changes(tokens[1])).runs == []  # also after it was started again
        finally:
            await running.stop()


async def test_a_backup_gets_its_name_when_it_is_on_the_disk_and_so_does_what_is_restored(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[int, int]] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        real(descriptor)
        status = os.fstat(descriptor)
        synced.append((status.st_dev, status.st_ino))

    def all_of(*paths: Path) -> set[tuple[int, int]]:
        return {(path.stat().st_dev, path.stat().st_ino) for path in paths}

    monkeypatch.setattr(os, "fsync", fsync)
    target, again = home.parent / "copy", home.parent / "again"
    running = await embedded.start(home, settings=FAST)
    try:
        await backup.take(home, running.port, target, None, lambda _: None)
    finally:
        await running.stop()
    assert synced[-1] in all_of(target.parent)
    assert set(synced) >= all_of(target, target / "backup.json", target / "postgres.password")
    synced.clear()
    await backup.restore(target, again, None, lambda _: None)
    assert synced[-1] in all_of(again)
    assert set(synced) >= all_of(*(again / "postgres").rglob("*"), again / "postgres", again / "postgres.password")


def _tables(home: Path) -> str:
    """Names of the tables of the schema `public` in a data home."""
    import asyncio

    async def look() -> str:
        running = await embedded.start(home, settings={"fsync": "off"})
        try:
            async with open_session(running.dsn) as connection:
                return str(
                    await connection.fetchval(
                        "SELECT string_agg(relname, ' ') FROM pg_class WHERE relnamespace = 'public'::regnamespace"
                    )
                )
        finally:
            await running.stop()

    return asyncio.run(look())


def test_a_backup_that_lost_a_byte_is_refused(home: Path) -> None:
    target = home.parent / "copy"
    _run("backup", "--data-dir", str(home), str(target))
    victim = max(
        (path for path in (target / "postgres" / "base").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size
    )
    with victim.open("r+b") as file:
        file.seek(100)
        byte = file.read(1)
        file.seek(100)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(StorageRejected, match="is not whole"):
        _run("restore", "--data-dir", str(home.parent / "other"), str(target))
    assert not (home.parent / "other" / "postgres").exists()
    shutil.rmtree(target)


def test_what_is_no_backup_is_refused(home: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageRejected, match="is no backup"):
        _run("restore", "--data-dir", str(home.parent / "other"), str(tmp_path))


@pytest.mark.parametrize("words", [("backup", "target"), ("restore", ".")])
def test_a_server_of_the_operators_has_its_own_tools(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAFER_STORAGE_DSN", "postgresql://127.0.0.1:1/wafer")
    with pytest.raises(StorageRejected, match="pg_basebackup or pgBackRest"):
        _run(*words)
