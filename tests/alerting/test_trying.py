"""`wafer alerting check`, `test`, `learn`, `schema`: against a real store."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.servers import postgres as server
from wafermonitor.alerting.command import alerting
from wafermonitor.alerting.config import Config
from wafermonitor.alerting.errors import AlertingRejected
from wafermonitor.alerting.rehearsal import NOT_REHEARSED
from wafermonitor.runs.alerts import Expectation, Origin
from wafermonitor.runs.records import Batch, Run
from wafermonitor.storage.config import Config as StorageConfig
from wafermonitor.storage.connect import connect

SECOND = 1_000_000_000
HOUR, DAY = 3600 * SECOND, 86_400 * SECOND
NIGHTLY = "expectations: {nightly: {job: lot_yield, site: fab1, cron: '0 2 * * *', start_margin: 10m, grace: 20m}}\n"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for config in (Config, StorageConfig):
        for field in config.model_fields:
            monkeypatch.delenv(f"WAFER_{config.component.upper()}_{field.upper()}", raising=False)
    for name in ("WAFER_CONFIG", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def run(*words: str, code: int = 0):
    done = CliRunner().invoke(alerting, [*words], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    assert (done.return_value or 0) == code, done.output
    return json.loads(done.stdout) if "--json" in words else done.stdout


def night(days_ago: int, *, took_s: float = 600.0, job: str = "lot_yield", parent: bytes | None = None) -> Run:
    """A run that began at 02:00 UTC."""
    start = time.time_ns() // DAY * DAY - days_ago * DAY + 2 * HOUR
    digest = hashlib.sha256(f"{job} {days_ago}".encode()).digest()
    return Run(
        site="fab1", trace_id=digest[:16], span_id=digest[16:24], job=job, start_ns=start, heartbeat_interval_s=30.0,
        end_ns=start + round(took_s * SECOND), end_rank=2, result="success", last_sign_ns=start, parent_span_id=parent,
        received_ns=start + round(took_s * SECOND), run_id=digest.hex()[:8],
    )  # fmt: skip


@pytest.fixture
def history(postgres: server.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty nights before yesterday: one left out, one that took an hour; and a subjob in each."""
    monkeypatch.setenv("WAFER_STORAGE_DSN", postgres.migrated())
    runs = [night(ago, took_s=3600.0 if ago == 5 else 600.0 + ago) for ago in range(2, 22) if ago != 10]
    runs += [night(ago, job="wafer_yield", parent=b"12345678") for ago in range(2, 22)]

    async def put() -> None:
        store = await connect(StorageConfig.load(), watch=True)
        try:
            await store.writer.write([Batch(runs=runs)])
        finally:
            await store.close()

    asyncio.run(put())


def expectations() -> dict[str, Expectation]:
    async def read() -> list[Expectation]:
        store = await connect(StorageConfig.load(), watch=True)
        try:
            assert store.watch is not None
            return await store.watch.expectations()
        finally:
            await store.close()

    return {one.name: one for one in asyncio.run(read())}


def test_a_file_is_checked(tmp_path: Path):
    file = tmp_path / "fab.yaml"
    file.write_text(NIGHTLY)
    assert run("check", str(file)) == "well: 25 rules, 1 expectations, 0 calendars, 0 channels, 0 routes\n"
    assert run("check", str(file), "--json")["expectations"] == ["nightly"]
    file.write_text("rules:\n  memory: {limits: {over: 8}}\n  lost: {sevrity: info}\n")
    told = run("check", str(file), "--json", code=1)
    assert [line.removeprefix(str(tmp_path)) for line in told["mistakes"]] == [
        "/fab.yaml:2: rules.memory.limits.over: 8: expected a size such as 500MB or 8GB",
        "/fab.yaml:3: rules.lost: unknown field 'sevrity', expected 'severity'",
    ]


def test_without_a_file_the_configured_one_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert "1 expectations" not in run("check")
    (tmp_path / "rules.yaml").write_text(NIGHTLY)
    monkeypatch.setenv("WAFER_ALERTING_RULES", str(tmp_path / "rules.yaml"))
    assert "1 expectations" in run("check")


@pytest.mark.postgres
@pytest.mark.usefixtures("history")
def test_history_says_what_would_have_fired(tmp_path: Path):
    file = tmp_path / "fab.yaml"
    file.write_text(NIGHTLY)
    begin = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 21 * 86_400))
    end = time.strftime("%Y-%m-%dT00:00:00Z", time.gmtime(time.time() - 86_400))
    told = run("test", str(file), "--from", begin, "--to", end, "--step", "1m", "--json")
    missed = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 10 * 86_400))
    slow = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 5 * 86_400))
    late, gone, unusual = told["fired"]
    assert (late["rule"], late["opened"], late["resolved"]) == ("late", f"{missed}T02:10:15Z", f"{missed}T02:30:15Z")
    assert (gone["rule"], gone["opened"], gone["site"], gone["job"]) == ("missed", f"{missed}T02:30:15Z", "fab1", "lot_yield")
    assert gone["resolved"].endswith("T02:01:00Z"), "the next one came"
    assert (unusual["rule"], unusual["resolved"]) == ("duration-anomaly", f"{slow}T03:00:00Z")
    assert (told["runs"], told["step_s"]) == (39, 60)
    assert len(told["not_rehearsed"]) == len(NOT_REHEARSED)
    lines = run("test", str(file), "--from", begin, "--to", end, "--rule", "missed", "--step", "1m").splitlines()
    assert lines[0].startswith(f"{missed}T02:30:15Z  critical  missed ")
    assert lines[0].endswith(f"lot_yield at fab1 did not run: due {missed}T02:00:00Z, 30 min 15 s ago")
    assert lines[1] == "1 × missed (39 runs, looked at each 60 s)"


@pytest.mark.postgres
@pytest.mark.usefixtures("history")
def test_what_is_learnt_is_expected_after_a_yes():
    assert run("learn", "--dry-run").splitlines() == [
        "learned.fab1.lot_yield: lot_yield at fab1: 0 2 * * * (UTC): 19 of 20 in time, 19 runs",
        "accept one with `wafer alerting learn --accept NAME`",
    ]
    assert expectations() == {}
    (proposal,) = run("learn", "--json")["proposals"]
    assert (proposal["name"], proposal["in_time"], proposal["called_for"]) == ("learned.fab1.lot_yield", 19, 20)
    assert proposal["spec"]["cron"] == "0 2 * * *"
    assert expectations()["learned.fab1.lot_yield"].origin is Origin.PROPOSED
    with pytest.raises(AlertingRejected, match=r"no proposal 'other'; there are learned\.fab1\.lot_yield"):
        run("learn", "--accept", "other")
    assert run("learn", "--accept", "learned.fab1.lot_yield") == "learned.fab1.lot_yield is expected from now on\n"
    active = expectations()["learned.fab1.lot_yield"]
    assert active.origin is Origin.API
    assert abs(active.since_ns - time.time_ns()) < 60 * SECOND
    assert run("learn") == "nothing to propose\n", "what is expected is not proposed again"


@pytest.mark.postgres
@pytest.mark.usefixtures("history")
def test_a_proposal_may_be_declined():
    run("learn")
    assert run("learn", "--decline", "learned.fab1.lot_yield") == "learned.fab1.lot_yield is proposed no more\n"
    assert expectations() == {}
    assert run("learn", "--job", "other") == "nothing to propose\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("test", "--from", "yesterday"), "expected a time such as -30d"),
        (("test", "--from", "-30"), "expected a time such as -30d"),
        (("test", "--step", "5"), "expected a duration such as 30s"),
        (("test", "--step", "100ms"), "expected 1 s or more"),
        (("test", "--rule", "lots"), "no rule lots; there are late, missed"),
    ],
)
def test_what_cannot_be_meant_is_refused(words, told):
    done = CliRunner().invoke(alerting, [*words])
    assert done.exit_code == 2
    assert told in done.output
