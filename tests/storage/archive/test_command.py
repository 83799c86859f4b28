"""`wafer archive`, as people and timers use it."""

from __future__ import annotations

import asyncio
import errno
import json
import os

import pytest
from click.testing import CliRunner

from tests.storage.archive import history
from tests.storage.archive.history import OLD, SITES
from wafermonitor.storage.archive.command import archive
from wafermonitor.storage.archive.config import Config
from wafermonitor.storage.archive.protocol import day_of
from wafermonitor.storage.archive.shelf import Folder
from wafermonitor.storage.errors import ArchiveDamaged, StorageRejected, StorageUnavailable
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


@pytest.mark.parametrize("words", [["list"], ["verify"], ["query", "runs"]])
def test_days_that_are_the_wrong_way_round_are_refused_everywhere(words):
    done = CliRunner().invoke(archive, [*words, "--from", "2026-02-02", "--to", "2026-02-01"])
    assert done.exit_code == 2
    assert "--from 2026-02-02 is after --to 2026-02-01" in done.output


def test_days_to_bring_back_are_named_and_in_order():
    done = CliRunner().invoke(archive, ["restore", "2026-02-02", "2026-02-01"])
    assert done.exit_code == 2
    assert "FIRST 2026-02-02 is after LAST 2026-02-01" in done.output
    assert "restore [OPTIONS] FIRST [LAST]" in done.output


def test_a_choice_that_nothing_meets_is_told_from_an_empty_archive(told):
    assert told("list", text=True) == "nothing is archived\n"
    told("run")
    assert "no archived day matches" in told("list", "--site", "nowhere", text=True)
    assert "no archived file was chosen" in told("verify", "--site", "nowhere", text=True)
    assert "nothing to bring back" in told("restore", "2030-01-01", text=True)


def test_an_archive_that_is_off_says_so(told):
    for words in (["run"], ["run", "--dry-run"]):
        assert "archiving is off (WAFER_ARCHIVE_ENABLED)" in told(*words, "--no-enabled", text=True)


def test_a_file_that_could_not_be_written_takes_no_room(folder):
    shelf = Folder(folder)

    def write():
        with shelf.create("signal=spans/half.parquet") as sink:
            sink.write(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(StorageUnavailable, match="no space left"):
        write()
    assert shelf.all() == []


def test_a_file_that_is_gone_is_named_by_who_asks_for_it(told, folder):
    told("run")
    gone = min(folder.rglob("signal=spans/site=f1/*/*.parquet"))
    gone.unlink()
    for words in (["query", "spans"], ["restore", FIRST]):
        done = CliRunner().invoke(archive, words, standalone_mode=False)
        assert isinstance(done.exception, ArchiveDamaged)
        assert str(gone.relative_to(folder)) in str(done.exception)
        assert "wafer archive verify" in str(done.exception)


def test_an_archive_that_stands_elsewhere_is_not_adopted_in_silence(told, folder, monkeypatch):
    told("run")
    monkeypatch.setenv("WAFER_ARCHIVE_FOLDER", str(folder / "elsewhere"))
    (failed,) = told("adopt", code=1)["failed"]
    assert "files that the manifest has are not here" in failed
    assert "WAFER_ARCHIVE_FOLDER" in failed
    monkeypatch.setenv("WAFER_ARCHIVE_FOLDER", str(folder))
    assert told("adopt")["failed"] == []
    assert told("run")["failed"] == []


def test_late_files_are_merged(told):
    told("run")
    assert told("run", "--dry-run")["late"] == []
    told.write(history.batch("f1", OLD[0], 7_000, 3))
    assert told("run", "--dry-run")["late"] == ["spans", "logs", "metrics"]
    assert "would archive late spans" in told("run", "--dry-run", text=True)
    told("run")
    assert {day["files"] for day in told("list", "--site", "f1", "--to", FIRST, "--signal", "spans")["days"]} == {2}
    assert len(told("compact")["files"]) == 3
    assert {day["files"] for day in told("list")["days"]} == {1}


def test_a_day_that_cannot_be_merged_is_named_and_holds_up_no_other(told, folder):
    told("run")
    told.write(history.batch("f1", OLD[0], 7_000, 3))
    told("run")
    next((folder / f"signal=logs/site=f1/date={FIRST}").iterdir()).write_bytes(b"spoiled")
    merged = told("compact", code=1)
    assert len(merged["files"]) == 2
    assert [failure for failure in merged["failed"] if failure.startswith(f"logs {FIRST} of f1: ")]


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
