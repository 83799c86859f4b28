"""What a block of a program says about its run, and that telemetry never changes what the block does."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import wafermonitor.instrumentation as wafer
from tests.servers import otlp_sink
from wafermonitor.instrumentation import jobs, providers

Telemetry = Callable[..., providers.Telemetry]


def test_every_keyword_arrives_on_the_span_and_on_the_start_event(telemetry: Telemetry, sink: otlp_sink.Server) -> None:
    telemetry()
    with wafer.job(
        "lot_yield",
        run_id="run-7",
        attempt=2,
        trigger="schedule",
        nominal_time=datetime(2026, 11, 22, 6, tzinfo=UTC),
        expected_duration_s=600,
        deadline="2026-11-22T08:00:00+00:00",
        owner="yield team",
        lot_ids=["GAL-LOT"],
        substrate_ids=("W1", "W2"),
        equipment_id="PROBER-3",
        recipe_name="sort",
        product_id="P1",
        params={"temperature": 85.5},
        attributes={"custom.flag": True},
    ) as job:
        assert job.run_id == "run-7"
        assert job.id == f"{job.trace_id}-{job.span_id}"
    jobs.flush()
    said = {
        "wafer.job.name": "lot_yield",
        "wafer.job.run.id": "run-7",
        "wafer.job.attempt": 2,
        "wafer.job.trigger": "schedule",
        "wafer.job.nominal_time": "2026-11-22T06:00:00+00:00",
        "wafer.job.expected_duration": 600,
        "wafer.job.deadline": "2026-11-22T08:00:00+00:00",
        "wafer.job.owner": "yield team",
        "wafer.lot.ids": ["GAL-LOT"],
        "wafer.substrate.ids": ["W1", "W2"],
        "wafer.equipment.id": "PROBER-3",
        "wafer.recipe.name": "sort",
        "wafer.product.id": "P1",
        "wafer.param.temperature": 85.5,
        "custom.flag": True,
    }
    [start] = sink.events("wafer.job.start")
    [span] = sink.runs()
    assert said.items() <= start.attributes.items()
    assert said.items() <= span.attributes.items()
    assert start.attributes["wafer.job.heartbeat.interval"] == 30
    assert (span.scope, span.raw["kind"]) == ("wafer", "SPAN_KIND_INTERNAL")


def test_every_event_names_its_run_and_has_a_time(telemetry: Telemetry, sink: otlp_sink.Server) -> None:
    telemetry()

    @wafer.job("a")
    def fails() -> None:
        job = wafer.current()
        assert job is not None
        job.progress(1, 4)
        raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        fails()
    jobs.flush()
    assert [item.name for item in sink.events()] == [
        "wafer.job.start",
        "wafer.job.progress",
        "wafer.job.exception",
        "wafer.job.end",
    ]
    [span] = sink.runs()
    for item in sink.events():
        assert (item.trace_id, item.span_id) == (span.trace_id, span.span_id)
        assert item.attributes["wafer.job.name"] == "a"
        assert item.attributes["wafer.job.run.id"] == span.span_id
        assert item.attributes["wafer.job.start_time_unix_nano"] == int(span.raw["startTimeUnixNano"])
        assert int(item.raw["timeUnixNano"]) >= int(span.raw["startTimeUnixNano"])
    end = sink.events("wafer.job.end")[0]
    assert end.attributes["wafer.job.duration"] == pytest.approx(
        (int(span.raw["endTimeUnixNano"]) - int(span.raw["startTimeUnixNano"])) / 1e9
    )
    assert {"wafer.job.cpu.time", "wafer.job.memory.max"} <= end.attributes.keys() & span.attributes.keys()
    assert [item.raw["severityText"] for item in sink.events()] == ["INFO", "INFO", "FATAL", "ERROR"]


def test_the_resource_begins_with_the_instance_and_says_where(telemetry: Telemetry, sink: otlp_sink.Server) -> None:
    telemetry(WAFER_AREA_NAME="litho", OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test", OTEL_SERVICE_NAME="sorter")
    with wafer.job("a"):
        pass
    resource = sink.runs()[0].resource
    assert next(iter(resource)) == "service.instance.id"
    assert (
        resource.items()
        >= {
            "service.name": "sorter",
            "host.name": os.uname().nodename,
            "process.pid": os.getpid(),
            "wafer.site.id": "fab1",
            "wafer.area.name": "litho",
            "deployment.environment.name": "test",
            "telemetry.distro.name": "wafer",
        }.items()
    )
    assert not any("command" in key or "executable" in key for key in resource)
    assert {item.resource["service.instance.id"] for item in [*sink.logs, *sink.spans, *sink.metrics]} == {
        resource["service.instance.id"]
    }


def test_an_exception_without_words_is_told_too(telemetry: Telemetry, sink: otlp_sink.Server) -> None:
    telemetry()
    with pytest.raises(AssertionError), wafer.job("a"):
        raise AssertionError
    assert [item.attributes["exception.type"] for item in sink.events("wafer.job.exception")] == ["AssertionError"]
    assert sink.runs()[0].raw["status"]["message"] == "AssertionError"


def test_ctrl_c_while_the_start_is_sent_ends_the_run(
    telemetry: Telemetry, sink: otlp_sink.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = telemetry()

    def interrupted(**_: float) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(made.sender, "flush", interrupted)
        with pytest.raises(KeyboardInterrupt), wafer.job("a"):
            pass
    jobs.flush()
    assert sink.runs()[0].attributes["wafer.job.result"] == "cancellation"


def test_fail_and_skip_say_so_without_an_exception(telemetry: Telemetry, sink: otlp_sink.Server) -> None:
    telemetry()
    with wafer.job("failed") as job:
        job.fail("yield below limit", error_type="LowYield")
    with wafer.job("broken") as job:
        job.fail(EOFError("file ends in a record"))
    with wafer.job("skipped") as job:
        job.skip("no new file")
    jobs.flush()
    failed, broken, skipped = (sink.runs(name)[0] for name in ("failed", "broken", "skipped"))
    assert (failed.attributes["wafer.job.result"], failed.attributes["error.type"]) == ("failure", "LowYield")
    assert failed.raw["status"] == {"code": "STATUS_CODE_ERROR", "message": "yield below limit"}
    assert (broken.attributes["wafer.job.result"], broken.attributes["error.type"]) == ("failure", "EOFError")
    assert [item.attributes["exception.type"] for item in sink.events("wafer.job.exception")] == ["EOFError"]
    assert skipped.attributes["wafer.job.result"] == "skip"
    assert skipped.raw["status"] == {}
    assert sink.events("wafer.job.end", job="skipped")[0].raw["body"] == {"stringValue": "no new file"}


def test_an_exit_after_fail_keeps_what_was_said(telemetry: Telemetry, sink: otlp_sink.Server) -> None:
    telemetry()

    @wafer.job("a")
    def fails() -> None:
        job = wafer.current()
        assert job is not None
        job.fail("bad lot", error_type="BadLot")
        raise SystemExit(2)

    with pytest.raises(SystemExit):
        fails()
    attributes = sink.runs()[0].attributes
    assert (attributes["error.type"], attributes["process.exit.code"]) == ("BadLot", 2)


def test_progress_is_throttled_and_the_last_is_always_sent(telemetry: Telemetry, sink: otlp_sink.Server) -> None:
    telemetry()
    with wafer.job("many") as job:
        for number in range(10_000):
            job.progress(number, 10_000, unit="die", stage="sort", message=f"die {number}")
    jobs.flush()
    told = [item.attributes["wafer.job.progress.completed"] for item in sink.events("wafer.job.progress")]
    assert told[0] == 0
    assert told[-1] == 9_999
    assert 100 <= len(told) <= 120
    last = sink.events("wafer.job.progress")[-1].attributes
    assert (last["wafer.job.progress.unit"], last["wafer.job.progress.stage"]) == ("die", "sort")
    assert last["wafer.job.progress.ratio"] == pytest.approx(0.9999)
    assert sink.runs()[0].attributes["wafer.job.progress.ratio"] == pytest.approx(0.9999)


def test_track_counts_the_items_it_gives(telemetry: Telemetry, sink: otlp_sink.Server) -> None:
    telemetry()
    with wafer.job("loop") as job:
        assert list(job.track(["a", "b"], unit="wafer")) == ["a", "b"]
        assert list(job.track((letter for letter in "xyz"), stage="second")) == ["x", "y", "z"]
    jobs.flush()
    told = [item.attributes for item in sink.events("wafer.job.progress")]
    assert [item.get("wafer.job.progress.ratio") for item in told[:3]] == [0.0, 0.5, 1.0]
    assert told[-1]["wafer.job.progress.completed"] == 3
    assert "wafer.job.progress.total" not in told[-1]


@pytest.mark.slow
def test_track_draws_a_bar_on_a_terminal_and_none_elsewhere(
    sink: otlp_sink.Server, environment: dict[str, str], start: Callable[..., subprocess.Popen[str]]
) -> None:
    terminal, program_side = pty.openpty()
    command = [sys.executable, str(Path(__file__).with_name("programs.py")), "bar"]
    settings = {**environment, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "TERM": "xterm"}
    subprocess.run(command, env=settings, stderr=program_side, check=True, timeout=60)
    drawn = os.read(terminal, 65_536).decode()
    os.close(program_side)
    os.close(terminal)
    assert "outer" in drawn
    assert "100%" in drawn
    assert start("bar").communicate(timeout=60) == ("", "")
    assert len(sink.runs("outer")) == 2


def test_what_one_run_says_is_not_carried_into_the_next(telemetry: Telemetry, sink: otlp_sink.Server) -> None:
    telemetry()
    again = wafer.job("again")
    again.set("wafer.param.line", "A")
    with again:
        again.set("wafer.param.dies", 3)
    with again:
        label = again.run_id
    assert again.run_id == label == again.span_id
    providers.close()
    first, second = sink.runs("again")
    assert (first.attributes["wafer.param.line"], second.attributes["wafer.param.line"]) == ("A", "A")
    assert first.attributes["wafer.param.dies"] == 3
    assert "wafer.param.dies" not in second.attributes


def test_values_of_any_kind_are_carried_or_become_text(telemetry: Telemetry, sink: otlp_sink.Server) -> None:
    telemetry()

    class Scalar:
        def item(self) -> int:
            return 7

    odd: dict[str, Any] = {
        "wafer.param.scalar": Scalar(),
        "wafer.param.huge": 2**70,
        "wafer.param.limit": 2**63 - 1,
        "wafer.param.surrogate": "a\udcffb",
        "wafer.param.mixed": ("a", "b"),
        "wafer.param.path": {"a": 1},
        "wafer.param.umlaut": 'Größe "µ"\n',
    }
    with wafer.job("odd") as job:
        for name, value in odd.items():
            job.set(name, value)
    attributes = sink.runs()[0].attributes
    assert {name.rpartition(".")[2]: attributes[name] for name in odd} == {
        "scalar": 7,
        "huge": str(2**70),
        "limit": 2**63 - 1,
        "surrogate": "a\ufffdb",
        "mixed": ["a", "b"],
        "path": "{'a': 1}",
        "umlaut": 'Größe "µ"\n',
    }


def test_a_strange_text_spoils_neither_its_own_run_nor_another(telemetry: Telemetry, sink: otlp_sink.Server) -> None:
    telemetry()
    with wafer.job("outer") as outer:
        with pytest.raises(ValueError, match="bytes"), outer.subjob("inner"):
            raise ValueError("bytes \udcff in a file name" + "x" * 100_000)
        outer.progress(completed=float("nan"), total=3, message="\udcff")
    jobs.flush()
    inner = sink.runs("inner")[0]
    assert inner.raw["status"]["message"].startswith("bytes \ufffd in a file name")
    assert len(inner.raw["status"]["message"]) < 10_000
    assert len(sink.runs()) == 2
    [progress] = sink.events("wafer.job.progress")
    assert progress.attributes["wafer.job.progress.message"] == "\ufffd"
    assert "wafer.job.progress.completed" not in progress.attributes


def test_what_cannot_be_encoded_is_left_out_and_the_rest_is_sent(
    telemetry: Telemetry, sink: otlp_sink.Server, caplog: pytest.LogCaptureFixture
) -> None:
    made = telemetry()
    with wafer.job("a"):
        made.sender.put("traces", object())
    jobs.flush()
    assert [run.name for run in sink.runs()] == ["a"]
    assert "cannot be encoded" in caplog.text


def test_a_decorated_function_is_a_run_at_each_call(telemetry: Telemetry, sink: otlp_sink.Server) -> None:
    telemetry()

    @wafer.job("step", owner="me")
    def step(number: int) -> int:
        """Documented."""
        return 2 * number

    @wafer.job("async_step")
    async def async_step() -> wafer.Job | None:
        return wafer.current()

    assert [step(1), step(2)] == [2, 4]
    assert step.__doc__ == "Documented."
    inner = asyncio.run(async_step())
    jobs.flush()
    assert inner is not None
    assert [run.name for run in sink.runs()] == ["step", "step", "async_step"]
    assert len({run.span_id for run in sink.runs()}) == 3


def test_current_is_the_innermost_open_run(telemetry: Telemetry) -> None:
    telemetry()
    assert wafer.current() is None
    with wafer.job("outer") as outer:
        with wafer.subjob("inner") as inner:
            assert wafer.current() is inner
        assert wafer.current() is outer
    assert wafer.current() is None


def test_runs_side_by_side_share_their_cpu_and_say_so(telemetry: Telemetry, sink: otlp_sink.Server) -> None:
    telemetry()
    with wafer.job("outer") as outer:
        one, two = outer.subjob("one"), outer.subjob("two")
        one.__enter__()
        two.__enter__()
        two.__exit__(None, None, None)
        one.__exit__(None, None, None)
    jobs.flush()
    shared = {run.name: run.attributes.get("wafer.job.cpu.shared", False) for run in sink.runs()}
    assert shared == {"one": True, "two": True, "outer": False}


@pytest.mark.parametrize("broken", ["tracer", "collect", "open_runs"])
def test_a_bug_in_telemetry_is_logged_once_and_the_job_goes_on(
    broken: str, telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = telemetry()

    def fails(*_: object) -> None:
        raise RuntimeError("our bug")

    monkeypatch.setattr(made, broken, fails)
    results = []
    for number in range(3):
        with wafer.job("a") as job:
            job.set("wafer.param.a", number)
            job.progress(1, 2)
            results.append(job.env()["PATH"])
    assert len(results) == 3
    assert len([record for record in caplog.records if "our bug" in record.getMessage()]) == 1


def test_mode_off_does_nothing(sink: otlp_sink.Server, telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAFER_MODE", "off")
    with wafer.job("a") as job:
        job.progress(1, 2)
        job.set("wafer.param.a", 1)
        assert job.env()["PATH"] == os.environ["PATH"]
        assert list(job.track([1, 2])) == [1, 2]
    assert providers.existing() is None
    assert sink.logs == []


def test_mode_file_writes_lines_and_sends_nothing(sink: otlp_sink.Server, telemetry: Telemetry) -> None:
    made = telemetry(WAFER_MODE="file")
    with wafer.job("a"):
        pass
    providers.close()
    lines = [json.loads(line) for path in made.config.spool_dir.glob("logs/*.jsonl") for line in path.read_text().splitlines()]
    records = [record for line in lines for record in line["resourceLogs"][0]["scopeLogs"][0]["logRecords"]]
    assert [record["eventName"] for record in records] == ["wafer.job.start", "wafer.job.end"]
    assert lines[0]["resourceLogs"][0]["resource"]["attributes"][0]["key"] == "service.instance.id"
    assert (sink.logs, sink.spans) == ([], [])
