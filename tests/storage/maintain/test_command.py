"""`wafer maintain`: what people, cron and `wafer up` see of it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import psutil
import pytest
from click.testing import CliRunner

from tests.servers import otlp_sink
from tests.storage.contract import builders
from wafermonitor.instrumentation.cli import main
from wafermonitor.runs.records import Batch
from wafermonitor.storage.maintain.command import maintain
from wafermonitor.storage.maintain.steps import STEPS
from wafermonitor.storage.timescale import rollups

pytestmark = pytest.mark.postgres
NAMES = [step.name for step in STEPS]


@pytest.fixture(autouse=True)
def _on(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAFER_STORAGE_DSN", dsn)


def answer(*words: str) -> tuple[int | None, dict]:
    done = CliRunner().invoke(maintain, [*words, "--json"], standalone_mode=False)
    assert done.exception is None, done.exception
    return done.return_value, json.loads(done.stdout)


def in_a_process(*words: str) -> tuple[int, dict]:
    """In a process of its own, because a loop runs here."""
    done = subprocess.run(
        [sys.executable, "-m", "wafermonitor.instrumentation.cli", "maintain", *words, "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_a_store_that_nobody_maintains_is_an_alarm_until_somebody_does():
    code, before = answer("status")
    assert (code, before["good"]) == (1, False)
    assert {step["standing"] for step in before["steps"]} == {"never"}
    code, done = answer("once")
    assert (code, done["busy"], [step["step"] for step in done["steps"]]) == (0, False, NAMES)
    code, after = answer("status")
    assert (code, after["good"]) == (0, True)
    assert {step["standing"] for step in after["steps"]} == {"good"}


async def test_maintenance_that_stopped_or_fails_is_an_alarm(store):
    assert in_a_process("once")[0] == 0
    alerts = "SELECT subject, message FROM wafer.generate_alerts() WHERE kind = 'maintenance'"
    assert await store.pool.fetch(alerts) == []
    assert {step.late for step in (await store.reader.health()).steps} == {False}
    await store.pool.execute(
        "UPDATE wafer_data.maintenance_log SET ended_time = ended_time - interval '1 hour' WHERE step = 'runs'"
    )
    code, text = in_a_process("status")
    assert code == 1
    assert {step["step"]: step["standing"] for step in text["steps"]}["runs"] == "late"
    assert [step.step for step in (await store.reader.health()).steps if step.late and step.age_s > 3600] == ["runs"]
    ((step, message),) = await store.pool.fetch(alerts)
    assert (step, "too long" in message) == ("runs", True)
    assert await store.pool.fetchrow("SELECT late_steps, failing_steps FROM wafer.system_health") == (1, 0)
    await store.pool.execute("SELECT wafer_data.log_step('runs', 'failed', 'the disk is full', now())")
    code, text = in_a_process("status")
    assert (code, {step["step"]: (step["standing"], step["report"]) for step in text["steps"]}["runs"]) == (
        1,
        ("failing", "the disk is full"),
    )


def test_some_steps_can_be_named():
    _, done = answer("once", "--step", "partitions", "--step", "indexes")
    assert [step["step"] for step in done["steps"]] == ["partitions", "indexes"]
    assert main(["maintain", "once", "--step", "magic"]) == 2


async def test_the_plan_projects_what_grows(store, monkeypatch):
    spans = [builders.span(number, start_ns=builders.NOW - builders.DAY + number) for number in range(500)]
    await store.writer.write([Batch(spans=spans, runs=[builders.ended(number) for number in range(50)])])
    await store.pool.execute("ANALYZE")
    _, found = in_a_process("plan")
    rooms = {room["table"]: room for room in found["rooms"]}
    span = rooms["span"]
    assert span["daily_bytes"] > 100_000
    assert span["later_bytes"] == span["bytes"] + 90 * span["daily_bytes"]  # the archive is off, so nothing ever goes
    assert found["keeps"] == "nothing is ever dropped: the archive is off"
    monkeypatch.setenv("WAFER_ARCHIVE_ENABLED", "true")
    _, found = in_a_process("plan")
    span = {room["table"]: room for room in found["rooms"]}["span"]
    assert span["later_bytes"] == 4 * span["daily_bytes"]
    assert "stay 4 days" in found["keeps"]


def test_plan_and_status_can_be_read_by_people(capsys):
    assert main(["maintain", "plan"]) == 0
    assert "in 90 days" in capsys.readouterr().out
    assert main(["maintain", "status"]) == 1
    assert "look at: partitions, runs" in capsys.readouterr().out


def test_memory_has_nothing_to_maintain(monkeypatch, capsys):
    monkeypatch.setenv("WAFER_STORAGE_DSN", "memory://")
    assert main(["maintain", "once"]) != 0
    assert "needs no maintenance" in capsys.readouterr().err
    end_in_order()


def test_run_says_that_it_is_ready_and_ends_in_order():
    end_in_order()


def end_in_order() -> None:
    command = [sys.executable, "-m", "wafermonitor.instrumentation.cli", "maintain", "run", "--json"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
    ready = json.loads(running.stdout.readline())
    assert (ready["ready"], ready["pid"]) == ("maintain", running.pid)
    running.send_signal(signal.SIGTERM)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 0, said


async def test_when_the_one_that_works_is_killed_the_other_takes_over(store, monkeypatch):
    monkeypatch.setenv("WAFER_STORAGE_MAINTAIN_INTERVAL_S", "0.2")
    command = [sys.executable, "-m", "wafermonitor.instrumentation.cli", "maintain", "run", "--json"]
    leader_is = (
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND (classid::bigint << 32) + objid::bigint = $1"
    )
    rounds = "SELECT sum(rounds) FROM wafer_data.maintenance_log WHERE step = 'runs'"

    async def until(sql: str, *arguments: int, beyond: int = 0) -> int:
        async with asyncio.timeout(60):
            while (found := await store.pool.fetchval(sql, *arguments) or 0) <= beyond:
                await asyncio.sleep(0.02)
        return found

    with ExitStack() as ends:
        first, second = (ends.enter_context(started(command)) for _ in range(2))
        ends.callback(second.kill)
        ends.callback(first.kill)
        led_by = await until(leader_is, rollups.LOCK)
        application = "SELECT client_port FROM pg_stat_activity WHERE pid = $1"
        port = await store.pool.fetchval(application, led_by)
        killed = next(one for one in (first, second) if port in ports_of(one.pid))
        killed.kill()
        killed.wait(60)
        while await until(leader_is, rollups.LOCK) == led_by:
            await asyncio.sleep(0.02)
        await until(rounds, beyond=await store.pool.fetchval(rounds) or 0)


def started(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def ports_of(pid: int) -> set[int]:
    """The local ports of a process's connections."""
    return {one.laddr.port for one in psutil.Process(pid).net_connections("tcp")}


@pytest.fixture
def sink() -> Iterator[otlp_sink.Server]:
    server = otlp_sink.start()
    yield server
    server.stop()


def test_a_round_is_a_run_of_a_job_where_telemetry_is_sent(monkeypatch, sink, tmp_path):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url)
    monkeypatch.setenv("WAFER_INSTRUMENTATION_BLOCKING_S", "30")
    monkeypatch.setenv("WAFER_SPOOL_DIR", str(tmp_path / "spool"))
    assert in_a_process("once")[0] == 0
    assert {"maintain", "maintain.statistics", "maintain.archive"} <= {span.name for span in sink.spans}
