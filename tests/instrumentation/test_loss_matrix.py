"""However a program ends, what it had started arrives: one real process for each row, and exactly what arrived from it."""

from __future__ import annotations

import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers import otlp_sink

pytestmark = pytest.mark.slow

Start = Callable[..., "subprocess.Popen[str]"]


def events(sink: otlp_sink.Server) -> dict[tuple[str, str], int]:
    """How many of which event of which job, without heartbeats."""
    found = Counter((item.name.removeprefix("wafer.job."), item.attributes["wafer.job.name"]) for item in sink.events())
    return {key: count for key, count in found.items() if key[0] != "heartbeat"}


def results(sink: otlp_sink.Server) -> dict[tuple[str, str, str | None], int]:
    """How many runs of which job ended how, by their spans."""
    return dict(
        Counter((run.name, run.attributes["wafer.job.result"], run.attributes.get("error.type")) for run in sink.runs())
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


def strike(process: subprocess.Popen[str], number: int) -> tuple[int, str]:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    return ended(process)


def test_a_normal_end(sink: otlp_sink.Server, start: Start) -> None:
    assert ended(start("normal")) == (0, "")
    assert events(sink) == {
        ("start", "outer"): 1,
        ("start", "inner"): 1,
        ("end", "inner"): 1,
        ("progress", "outer"): 1,
        ("end", "outer"): 1,
    }
    assert results(sink) == {("inner", "success", None): 1, ("outer", "success", None): 1}
    inner, outer = sink.runs("inner")[0], sink.runs("outer")[0]
    assert inner.parent_span_id == outer.span_id == inner.attributes["wafer.job.parent.span.id"]
    assert inner.attributes["wafer.param.dies"] == 7
    assert {item.name for item in sink.metrics} == {
        "process.cpu.time",
        "process.memory.usage",
        "process.uptime",
        "wafer.job.duration",
    }
    [durations] = [item.raw["histogram"] for item in sink.metrics if item.name == "wafer.job.duration"]
    assert durations["aggregationTemporality"] == "AGGREGATION_TEMPORALITY_DELTA"
    assert [int(point["count"]) for point in durations["dataPoints"]] == [1, 1], "inner and outer"
    assert max(int(point["timeUnixNano"]) for point in durations["dataPoints"]) <= int(outer.raw["endTimeUnixNano"])


def test_an_exception(sink: otlp_sink.Server, start: Start) -> None:
    code, errors = ended(start("exception"))
    assert code == 1
    assert "ValueError: no such lot" in errors
    assert events(sink) == {("start", "outer"): 1, ("exception", "outer"): 1, ("end", "outer"): 1}
    assert results(sink) == {("outer", "failure", "ValueError"): 1}
    told = sink.events("wafer.job.exception")[0].attributes
    assert (told["exception.type"], told["exception.message"]) == ("ValueError", "no such lot")
    assert "exception.stacktrace" not in told
    assert sink.runs()[0].raw["status"] == {"code": "STATUS_CODE_ERROR", "message": "no such lot"}


def test_sys_exit(sink: otlp_sink.Server, start: Start) -> None:
    assert ended(start("sys_exit")) == (3, "")
    assert results(sink) == {("outer", "failure", "SystemExit"): 1}
    assert sink.runs()[0].attributes["process.exit.code"] == 3


def test_sigterm_ends_open_runs_innermost_first_and_still_kills(sink: otlp_sink.Server, start: Start) -> None:
    assert strike(start("sigterm"), signal.SIGTERM) == (-signal.SIGTERM, "")
    assert [run.name for run in sink.runs()] == ["inner", "outer"]
    assert results(sink) == {
        ("inner", "cancellation", "signal.SIGTERM"): 1,
        ("outer", "cancellation", "signal.SIGTERM"): 1,
    }
    assert events(sink)["end", "outer"] == events(sink)["end", "inner"] == 1


def test_sigterm_with_a_handler_of_the_program(sink: otlp_sink.Server, start: Start) -> None:
    assert strike(start("own_handler"), signal.SIGTERM) == (0, "")
    assert results(sink) == {("outer", "cancellation", "signal.SIGTERM"): 1}


def test_sigterm_while_waiting_for_a_child(sink: otlp_sink.Server, start: Start) -> None:
    code, _ = strike(start("interrupted_subprocess"), signal.SIGTERM)
    assert code == -signal.SIGTERM
    assert results(sink) == {("outer", "cancellation", "signal.SIGTERM"): 1}


def test_sigint(sink: otlp_sink.Server, start: Start) -> None:
    code, errors = strike(start("sigterm"), signal.SIGINT)
    assert code == -signal.SIGINT
    assert "KeyboardInterrupt" in errors
    assert results(sink) == {("inner", "cancellation", "signal.SIGINT"): 1, ("outer", "cancellation", "signal.SIGINT"): 1}


def test_sigkill_leaves_every_start_behind(sink: otlp_sink.Server, start: Start) -> None:
    assert strike(start("sigterm"), signal.SIGKILL) == (-signal.SIGKILL, "")
    assert events(sink) == {("start", "outer"): 1, ("start", "inner"): 1}
    assert results(sink) == {}


def test_os_exit_inside_the_block_leaves_the_start_behind(sink: otlp_sink.Server, start: Start) -> None:
    assert ended(start("os_exit_inside")) == (4, "")
    assert events(sink) == {("start", "outer"): 1}


def test_os_exit_after_the_block_loses_nothing(sink: otlp_sink.Server, start: Start) -> None:
    assert ended(start("os_exit_after")) == (0, "")
    assert events(sink) == {("start", "outer"): 1, ("end", "outer"): 1}
    assert results(sink) == {("outer", "success", None): 1}


def test_a_forked_child_reports_its_own_runs_and_leaves_the_parents_alone(sink: otlp_sink.Server, start: Start) -> None:
    assert ended(start("fork")) == (0, "")
    assert results(sink) == {("child", "success", None): 1, ("outer", "success", None): 1}
    child, outer = sink.runs("child")[0], sink.runs("outer")[0]
    assert child.parent_span_id == outer.span_id
    assert child.resource["process.pid"] != outer.resource["process.pid"]
    assert child.resource["service.instance.id"] != outer.resource["service.instance.id"]


def test_a_plain_span_of_a_forked_child_is_sent_by_the_child(sink: otlp_sink.Server, start: Start) -> None:
    assert ended(start("fork_plain")) == (0, "")
    assert Counter(span.name for span in sink.spans) == {"outer": 1, "plain": 1}
    plain = next(span for span in sink.spans if span.name == "plain")
    assert plain.parent_span_id == sink.runs("outer")[0].span_id


@pytest.mark.parametrize(("program", "tasks"), [("spawn", 1), ("pool", 4), ("executor", 4)])
def test_processes_of_multiprocessing(program: str, tasks: int, sink: otlp_sink.Server, start: Start) -> None:
    assert ended(start(program)) == (0, "")
    assert events(sink) == {
        ("start", "outer"): 1,
        ("start", "work"): tasks,
        ("end", "work"): tasks,
        ("end", "outer"): 1,
    }
    assert results(sink) == {("work", "success", None): tasks, ("outer", "success", None): 1}
    outer = sink.runs("outer")[0]
    assert {(run.trace_id, run.attributes["wafer.job.parent.span.id"]) for run in sink.runs("work")} == {
        (outer.trace_id, outer.span_id)
    }


def test_a_killed_worker_is_the_infrastructures_error(sink: otlp_sink.Server, start: Start) -> None:
    assert ended(start("killed_worker"))[0] == 1
    assert results(sink) == {("outer", "error", "BrokenProcessPool"): 1}


@pytest.mark.parametrize("program", ["threads", "tasks"])
def test_threads_and_tasks(program: str, sink: otlp_sink.Server, start: Start) -> None:
    assert ended(start(program)) == (0, "")
    assert results(sink) == {("work", "success", None): 8, ("outer", "success", None): 1}
    outer = sink.runs("outer")[0]
    assert {run.parent_span_id for run in sink.runs("work")} == {outer.span_id}
    assert sorted(run.attributes["wafer.param.number"] for run in sink.runs("work")) == list(range(8))


def test_a_cancelled_task(sink: otlp_sink.Server, start: Start) -> None:
    assert ended(start("cancelled_task")) == (0, "")
    assert results(sink) == {("outer", "cancellation", "CancelledError"): 1}


def test_a_daemon_thread_that_the_end_cuts_off(sink: otlp_sink.Server, start: Start) -> None:
    assert ended(start("daemon_thread")) == (0, "")
    assert results(sink) == {("outer", "cancellation", "process_exit"): 1}


def test_a_child_process_with_the_jobs_environment_is_its_subjob(sink: otlp_sink.Server, start: Start) -> None:
    assert ended(start("subprocess_child")) == (0, "")
    parent, child = sink.runs("outer")[1], sink.runs("outer")[0]
    assert child.trace_id == parent.trace_id
    assert child.attributes["wafer.job.parent.span.id"] == child.parent_span_id == parent.span_id


def test_nobody_listening_goes_to_the_spool_and_the_next_run_delivers_it(
    sink: otlp_sink.Server, start: Start, tmp_path: Path
) -> None:
    sink.stop()
    code, errors = ended(start("normal"))
    assert code == 0
    assert errors.count("\n") == 1, "one warning, not one for each request"
    assert "no answer from the endpoint" in errors
    assert sorted(path.parent.name for path in tmp_path.glob("spool/*/*.jsonl")) == ["logs", "metrics", "traces"]

    back = otlp_sink.start(sink.port)
    try:
        assert ended(start("normal")) == (0, "")
        back.wait_for(lambda seen: len(seen.runs("outer")) == 2)
        assert events(back)["start", "outer"] == events(back)["end", "outer"] == 2
    finally:
        back.stop()


def test_an_endpoint_that_refuses_for_now_is_spooled(sink: otlp_sink.Server, start: Start, tmp_path: Path) -> None:
    sink.status = 503
    assert ended(start("normal"))[0] == 0
    assert list(tmp_path.glob("spool/logs/*.jsonl"))


def test_a_black_hole_costs_all_runs_of_a_process_together_no_more_than_the_budget(
    sink: otlp_sink.Server, start: Start, tmp_path: Path
) -> None:
    without, _ = start("many", WAFER_MODE="file", WAFER_INSTRUMENTATION_BLOCKING_S="0.3").communicate(timeout=60)
    sink.silent.set()
    waited_s: list[float] = []
    while len(waited_s) < 3 and not (waited_s and waited_s[-1] < 0.5):  # other load can only add to it
        process = start("many", WAFER_INSTRUMENTATION_BLOCKING_S="0.3", OTEL_EXPORTER_OTLP_TIMEOUT="1")
        seconds, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        waited_s.append(float(seconds) - float(without))
    assert min(waited_s) < 0.5, "the budget of 0.3 s, and 0.2 s for a loaded machine"
    kept = "".join(path.read_text() for path in tmp_path.glob("spool/logs/*.jsonl"))
    assert kept.count('"eventName":"wafer.job.end"') >= 50 * (1 + len(waited_s)), "50 of each program"


def test_what_stands_in_arguments_and_environment_never_leaves(sink: otlp_sink.Server, start: Start) -> None:
    code, _ = ended(start("secrets", "--password", "hunter2", DB_PASSWORD="s3cr3t-in-env"))
    assert code == 1
    sink.wait_for(lambda seen: seen.runs("outer"))
    everything = b"".join(sink.bodies) + repr(sink.headers).encode()
    assert b"hunter2" not in everything
    assert b"s3cr3t-in-env" not in everything
    bodies = [item.raw["body"]["stringValue"] for item in sink.logs if not item.name]
    assert bodies == ["reading lot 7", "the tool failed"]
    assert {item.span_id for item in sink.logs} == {sink.runs()[0].span_id}
