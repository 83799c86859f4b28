"""`wafer archive`, as people and timers use it."""

from __future__ import annotations

import asyncio
import json

import pytest
from click.testing import CliRunner

from tests.storage.archive import history
from tests.storage.archive.history import OLD, SITES
from wafermonitor.storage.archive.command import archive
from wafermonitor.storage.archive.config import Config
from wafermonitor.storage.archive.protocol import day_of
from wafermonitor.storage.errors import StorageRejected
from wafermonitor.storage.timescale.writer import Writer

pytestmark = pytest.mark.postgres
FIRST = str(day_of(OLD[0]))
EACH = history.ROWS * len(SITES)


@pytest.fixture
def told(dsn, folder, monkeypatch, tmp_path):
    """Run a command on a database with old days; its answer as JSON, or its text."""
    for name in ("WAFER_CONFIG", *(name for names in Config.aliases.values() for name in names)):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WAFER_STORAGE_DSN", dsn)
    monkeypatch.setenv("WAFER_ARCHIVE_FOLDER", str(folder))
    monkeypatch.setenv("WAFER_ARCHIVE_HOT_HOURS", "72")  # as on every tier: an edition that compresses keeps days longer

    async def fill(*batches):
        async with history.opened(dsn) as pool:
            await (Writer(pool).write(batches) if batches else history.fill(pool))

    def tell(*words, code=0, text=False):
        done = CliRunner().invoke(archive, words if text else [*words, "--json"], standalone_mode=False)
        assert done.exception is None, done.exception
        assert (done.return_value or 0) == code
        return done.stdout if text else json.loads(done.stdout)

    asyncio.run(fill())
    tell.write = lambda *batches: asyncio.run(fill(*batches))
    return tell


def test_days_are_planned_archived_listed_verified_and_brought_back(told):
    plan = told("run", "--dry-run")
    assert [f"spans {FIRST}", EACH] in plan["archive"]
    assert told("list") == {"days": []}

    done = told("run")
    assert (done["busy"], done["failed"], done["rows"]) == (False, [], 16 * history.ROWS)
    listed = told("list", "--signal", "spans", "--site", "f1")["days"]
    assert (FIRST, history.ROWS, "archive") in [(day["day"], day["rows"], day["answers"]) for day in listed]
    assert told("verify", "--to", FIRST) == {"files": 8, "rows": 4 * EACH, "damaged": [], "unknown": 0}

    back = told("restore", FIRST, "--signal", "logs", "--keep-days", "2")
    assert (back["rows"], back["days"]) == (EACH, [f"logs {FIRST}"])
    (day,) = told("list", "--signal", "logs", "--site", "f1", "--to", FIRST)["days"]
    assert day["answers"] == "store"
    assert told("run", "--dry-run", text=True).startswith("nothing to do")


def test_runs_come_back_by_the_month(told):
    told("run", "--hot-run-days", "1")
    listed = told("list", "--signal", "runs")["days"]
    dropped = {day["day"][:7] for day in listed if day["answers"] == "archive"}
    back = told("restore", FIRST, str(day_of(OLD[1])), "--signal", "runs")
    assert set(back["days"]) == {f"runs {month}" for month in dropped & {FIRST[:7], str(day_of(OLD[1]))[:7]}}
    for month in dropped:
        assert {day["answers"] for day in told("list", "--signal", "runs")["days"] if day["day"].startswith(month)} == {"store"}


def test_keep_hot_drops_nothing(told):
    assert told("run", "--keep-hot")["dropped"] == []
    assert {day["answers"] for day in told("list")["days"]} == {"store"}


def test_archived_rows_are_printed_as_json_lines(told):
    told("run")
    rows = [
        json.loads(line)
        for line in told("query", "spans", "--site", "f1", "--from", FIRST, "--limit", "7", text=True).splitlines()
    ]
    assert len(rows) == 7
    assert {row["resource"]["site"] for row in rows} == {"f1"}
    trace = rows[0]["trace_id"]
    same = told("query", "spans", "--trace", trace, "--site", "f1", text=True).splitlines()
    assert {json.loads(line)["trace_id"] for line in same} == {trace}
    assert told("query", "runs", "--trace", trace, text=True)


def test_rows_of_every_signal_are_printed_as_one_object(told):
    told("run", "--keep-hot")
    for signal, name in (("spans", "span_id"), ("logs", "digest"), ("metrics", "series"), ("runs", "run_id")):
        rows = told("query", signal, "--site", "f1", "--limit", "40")["rows"]
        assert len(rows) == 40
        assert all(row[name] for row in rows)
    assert told("query", "spans", "--trace", "00" * 16) == {"rows": []}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["spans", "--trace", "xyz"], "not 32 hex digits"),
        (["spans", "--trace", "abcd"], "not 32 hex digits"),
        (["metrics", "--trace", "00" * 16], "points belong to no trace"),
        (["spans", "--from", "2026-02-02", "--to", "2026-02-01"], "is after --to"),
        (["beats"], "'beats' is not one of"),
    ],
)
def test_what_cannot_be_asked_is_said(words, said):
    done = CliRunner().invoke(archive, ["query", *words])
    assert done.exit_code == 2
    assert said in done.output


def test_late_files_are_merged(told):
    told("run")
    told.write(history.batch("f1", OLD[0], 7_000, 3))
    told("run")
    assert {day["files"] for day in told("list", "--site", "f1", "--to", FIRST, "--signal", "spans")["days"]} == {2}
    assert len(told("compact")["files"]) == 3
    assert {day["files"] for day in told("list")["days"]} == {1}


def test_a_damaged_file_makes_verify_fail_and_is_named(told, folder):
    told("run")
    victim = min(folder.rglob("signal=logs/**/*.parquet"))
    content = bytearray(victim.read_bytes())
    content[50] ^= 1
    victim.write_bytes(content)
    min(folder.rglob("signal=spans/**/*.parquet")).unlink()
    damaged = told("verify", code=1)["damaged"]
    assert len(damaged) == 2
    assert any(str(victim.relative_to(folder)) in line for line in damaged)


def test_files_that_the_manifest_does_not_have_are_told_of_and_taken_over(told, dsn):
    told("run")
    wanted = told("list")["days"]

    async def forget():
        async with history.opened(dsn) as pool:
            await pool.execute("DELETE FROM wafer_data.archive_manifest WHERE signal = 'logs'")
            await pool.execute("UPDATE wafer_data.setting SET value = 'older' WHERE name = 'archive_turns'")

    asyncio.run(forget())
    assert told("verify")["unknown"] == 4
    assert "wafer archive adopt" in told("verify", text=True)
    assert told("adopt") == {"files": 4, "rows": 2 * EACH, "failed": []}
    assert told("verify")["unknown"] == 0
    assert told("list")["days"] == wanted


def test_a_store_without_days_says_so(told, monkeypatch):
    monkeypatch.setenv("WAFER_STORAGE_DSN", "memory://")
    done = CliRunner().invoke(archive, ["run"], standalone_mode=False)
    assert isinstance(done.exception, StorageRejected)
    assert "only a PostgreSQL store" in str(done.exception)
