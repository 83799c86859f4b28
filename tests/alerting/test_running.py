"""`wafer alerting` as processes: one evaluates, others stand by; whoever is killed, nothing is told twice or left out."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

import asyncpg
import psutil
import pytest

from tests.alerting.fabs import Fab
from tests.servers import http_sink
from wafermonitor.alerting.config import Config
from wafermonitor.alerting.metrics import Meters
from wafermonitor.alerting.running import Service
from wafermonitor.instrumentation.cli import main
from wafermonitor.runs.alerts import Alert, ExpectedRun
from wafermonitor.runs.expectations import ExpectedState
from wafermonitor.storage.config import Config as StorageConfig
from wafermonitor.storage.connect import connect
from wafermonitor.storage.errors import StorageUnavailable
from wafermonitor.storage.watch import AlertQuery, ExpectedQuery, Watch

SECOND = 1_000_000_000
EACH_SECOND = """
expectations:
  pulse: {job: pulse, site: f1, every: 1s, early: 0s, start_margin: 0s, grace: 1s}
"""
TICK_S = "0.1"


@pytest.fixture
def dsn(postgres, monkeypatch) -> str:
    """A database in which an absence is known at once."""
    address = postgres.migrated()
    monkeypatch.setenv("WAFER_STORAGE_DSN", address)
    monkeypatch.setenv("WAFER_ALERTING_TICK_S", TICK_S)
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "WAFER_CONFIG"):
        monkeypatch.delenv(name, raising=False)

    async def hurry() -> None:
        connection = await asyncpg.connect(address)
        await connection.execute("UPDATE wafer_data.setting SET value = '0' WHERE name = 'margin_s'")
        await connection.close()

    asyncio.run(hurry())
    return address


@contextmanager
def evaluating(rules: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """A process of `wafer alerting`, which is ready."""
    command = [sys.executable, "-m", "wafermonitor.instrumentation.cli", "alerting", "run", "--json"]
    command += ["--rules", str(rules)] if rules is not None else []
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=os.environ)
    try:
        assert running.stdout is not None
        ready = json.loads(running.stdout.readline())
        assert (ready["ready"], ready["pid"]) == ("alerting", running.pid)
        yield running
    finally:
        running.kill()
        running.communicate()


def asked(ask):
    """The answer of the database's watch, from outside."""

    async def go():
        storage = await connect(StorageConfig.load(), migrate=False)
        try:
            return await ask(storage.watch)
        finally:
            await storage.close()

    return asyncio.run(go())


async def what_was_told(watch: Watch) -> tuple[list[Alert], list[ExpectedRun]]:
    alerts: list[Alert] = []
    cursor = None
    while True:
        page = await watch.alerts(AlertQuery(rule=("missed",), cursor=cursor, limit=1000))
        alerts += page.items
        cursor = page.cursor
        if cursor is None:
            break
    return alerts, (await watch.expected_runs(ExpectedQuery(limit=1000))).items


def until_missed(count: int) -> None:
    """Wait until so many expected runs are missed."""
    end = time.monotonic() + 60
    while len(asked(lambda watch: watch.alerts(AlertQuery(rule=("missed",), limit=1000))).items) < count:
        assert time.monotonic() < end, "no more is told"


@pytest.mark.postgres
@pytest.mark.slow
def test_whoever_is_killed_whenever_each_missed_run_is_told_once(dsn, tmp_path):
    rules = tmp_path / "rules.yaml"
    rules.write_text(EACH_SECOND)
    random = Random(6)
    with evaluating(rules):
        for round_ in range(4):
            with evaluating(rules) as dying:
                until_missed(2 * round_ + 2)
                time.sleep(random.random() * 0.3)  # killed at any moment of its tick
                dying.kill()
        until_missed(12)
    alerts, expected = asked(what_was_told)
    told = [alert.subject.detail for alert in alerts]
    assert len(told) == len(set(told))
    times = sorted(one.due.nominal_ns // SECOND for one in expected)
    assert times == list(range(times[0], times[-1] + 1))
    assert len(told) == sum(one.state is ExpectedState.MISSED for one in expected)


@pytest.mark.postgres
@pytest.mark.slow
def test_when_the_one_that_leads_is_killed_the_other_takes_over(dsn, tmp_path):
    rules = tmp_path / "rules.yaml"
    rules.write_text(EACH_SECOND)
    with evaluating(rules) as first, evaluating(rules):
        until_missed(2)
        first.kill()
        until_missed(6)
    told = [alert.subject.detail for alert in asked(what_was_told)[0]]
    assert len(told) == len(set(told))


@pytest.mark.postgres
def test_it_ends_in_order_and_says_how_it_stands(dsn, capsys):
    assert main(["alerting", "status"]) == 1
    assert "nobody evaluates" in capsys.readouterr().out
    with evaluating() as running:
        end = time.monotonic() + 30
        while main(["alerting", "status", "--json"]):
            assert time.monotonic() < end, "it does not evaluate"
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=20)
        assert running.returncode == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (last["evaluates"], last["expectations"], last["open_alerts"]) == (True, 0, {})


@pytest.mark.postgres
def test_it_ends_in_seconds_while_a_channel_says_nothing(dsn, tmp_path):
    with http_sink.start() as sink:
        sink.silent.set()
        rules = tmp_path / "rules.yaml"
        rules.write_text(
            f'{EACH_SECOND}\nchannels: {{sink: {{url: "{sink.url}/in", engine: webhook, timeout: 60s}}}}\n'
            "routes: [{name: all, channels: [sink], wait: 0s}]\n"
        )
        with evaluating(rules) as running:
            end = time.monotonic() + 30
            while not sink.requests:
                assert time.monotonic() < end, "nobody is told"
                time.sleep(0.05)
            running.send_signal(signal.SIGTERM)
            running.communicate(timeout=20)
            assert running.returncode == 0


@pytest.mark.postgres
def test_it_ends_in_seconds_while_the_database_says_nothing(dsn, tmp_path):
    rules = tmp_path / "rules.yaml"
    rules.write_text(EACH_SECOND)
    database = dsn.rsplit("/", 1)[-1].partition("?")[0]
    with evaluating(rules) as running:
        until_missed(1)
        asked = [
            one
            for one in psutil.process_iter(["name", "cmdline"])
            if one.info["name"] == "postgres" and database in " ".join(one.info["cmdline"] or ())
        ]
        assert asked
        for one in asked:
            one.suspend()
        try:
            running.send_signal(signal.SIGTERM)
            running.communicate(timeout=30)
        finally:
            for one in asked:
                with suppress(psutil.NoSuchProcess):
                    one.resume()


@pytest.mark.postgres
def test_rules_are_followed_when_their_file_changes_and_kept_when_it_is_broken(dsn, tmp_path, capsys):
    rules = tmp_path / "rules.yaml"
    rules.write_text(EACH_SECOND)
    with evaluating(rules):
        until_missed(1)
        rules.write_text("expectations: {pulse: {job: pulse}}")
        end = time.monotonic() + 30
        while not (found := asked(lambda watch: watch.alerts(AlertQuery(rule=("evaluator-fault",)))).items):
            assert time.monotonic() < end, "nothing is said of a file that cannot be read"
        assert "no schedule" in found[0].summary
        assert len(asked(lambda watch: watch.expectations())) == 1
        rules.write_text("expectations: {}")
        while asked(lambda watch: watch.expectations()):
            assert time.monotonic() < end, "the file is not followed"
        capsys.readouterr()
    assert main(["alerting", "once", "--json", "--rules", str(rules)]) == 0
    assert json.loads(capsys.readouterr().out)["faults"] == {}


def test_what_cannot_be_used_is_said(monkeypatch, capsys):
    monkeypatch.setenv("WAFER_STORAGE_DSN", "memory://")
    assert main(["alerting", "run", "--tick-s", "soon"]) == 2
    assert "tick_s" in capsys.readouterr().err
    assert main(["alerting", "run", "--metrics-address", "nowhere"]) == 1
    assert "metrics_address" in capsys.readouterr().err


def test_once_evaluates_and_says_what_it_came_to(monkeypatch, capsys):
    monkeypatch.setenv("WAFER_STORAGE_DSN", "memory://")
    assert main(["alerting", "once", "--rules", "/nowhere/rules.yaml"]) == 0
    assert "cannot follow the rules: /nowhere/rules.yaml" in capsys.readouterr().out


async def test_who_cannot_tick_does_not_lead_until_it_can(monkeypatch):
    monkeypatch.delenv("WAFER_ALERTING_RULES", raising=False)
    fab, meters = Fab(), Meters()
    service = Service(Config(), fab.storage, fab.storage.watch, meters)
    tick = service.evaluator.tick

    async def leads_after(failure: Exception | None) -> float | None:
        async def failing() -> None:
            raise failure

        service.evaluator.tick = tick if failure is None else failing
        await service.tick()
        return meters.registry.get_sample_value("wafer_alerting_leader")

    failures = (None, StorageUnavailable("down"), None, ValueError("odd"), None)
    assert [await leads_after(failure) for failure in failures] == [1, 0, 1, 0, 1]
