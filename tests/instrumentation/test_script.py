"""`wafer start`, `wafer progress`, `wafer end` in real shells: one run, told by several processes."""

import hashlib
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

WAFER = f"{shlex.quote(sys.executable)} -m wafermonitor.instrumentation.cli"


@pytest.fixture
def env(environment, sink, tmp_path):
    return {**environment, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "XDG_STATE_HOME": str(tmp_path / "state")}


def sh(script, env):
    return subprocess.run(
        ["sh", "-euc", f'wafer() {{ {WAFER} "$@"; }}\n{script}'],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def states(tmp_path):
    return list((tmp_path / "state" / "wafermonitor" / "runs").iterdir())


def test_a_script_begins_tells_and_ends_its_run(env, sink, tmp_path):
    done = sh(
        'eval "$(wafer start lot_yield --run-id "it\'s" --lot A --param dies=3)"\n'
        "wafer progress 3/25 'wafer 3'; wafer progress 50%; echo $TRACEPARENT; wafer end",
        env,
    )
    assert (done.returncode, done.stderr) == (0, "")
    names = [event.name for event in sink.events()]
    assert names == ["wafer.job.start", "wafer.job.progress", "wafer.job.progress", "wafer.job.end"]
    start, first, _, end = sink.events()
    (span,) = sink.runs()
    digest = hashlib.sha256(b"fab1\0lot_yield\0it's\0" + b"1").digest()
    assert (span.trace_id, span.span_id) == (digest[:16].hex(), digest[16:24].hex())
    assert done.stdout == f"00-{span.trace_id}-{span.span_id}-03\n"
    assert {item.span_id for item in sink.events()} == {span.span_id}
    assert {item.resource["service.instance.id"] for item in [*sink.events(), span]} == {span.resource["service.instance.id"]}
    assert "process.pid" not in span.resource
    assert "wafer.job.heartbeat.interval" not in start.attributes
    assert first.attributes["wafer.job.progress.message"] == "wafer 3"
    assert (
        int(span.raw["startTimeUnixNano"])
        == start.attributes["wafer.job.start_time_unix_nano"]
        == int(start.raw["timeUnixNano"])
    )
    assert span.attributes["wafer.lot.ids"] == ["A"]
    assert span.attributes["wafer.param.dies"] == 3
    assert span.attributes["wafer.job.progress.ratio"] == 0.5
    assert span.attributes["wafer.job.result"] == end.attributes["wafer.job.result"] == "success"
    assert end.attributes["wafer.job.duration"] > 0
    assert states(tmp_path) == []


@pytest.mark.parametrize(
    ("how", "result", "error_type"),
    [
        ("--exit-code 7", "failure", "exit.7"),
        ("--exit-code 0", "success", None),
        ("--result error --error-type host_down --message 'no disk'", "error", "host_down"),
        ("--result skip", "skip", None),
    ],
)
def test_the_end_says_how(env, sink, how, result, error_type):
    sh(f'eval "$(wafer start x)"; wafer end {how}', env)
    (span,) = sink.runs()
    assert (span.attributes["wafer.job.result"], span.attributes.get("error.type")) == (result, error_type)
    assert ("code" in span.raw["status"]) == (result in {"failure", "error"})


def test_another_shell_ends_the_run_by_its_names(env, sink):
    sh("wafer start lot_yield --run-id R1 --attempt 2 --lot A >/dev/null", env)
    done = sh(
        "wafer progress 1/2 --job lot_yield --run-id R1 --attempt 2; wafer end --job lot_yield --run-id R1 --attempt 2", env
    )
    assert (done.returncode, done.stderr) == (0, "")
    (span,) = sink.runs()
    assert span.attributes["wafer.lot.ids"] == ["A"]
    assert span.attributes["wafer.job.progress.ratio"] == 0.5


def test_the_run_is_not_lost_with_its_state_file(env, sink, tmp_path):
    sh("wafer start lot_yield --run-id R1 >/dev/null", env)
    for path in states(tmp_path):
        path.unlink()
    done = sh("wafer end --job lot_yield --run-id R1 --exit-code 1", env)
    assert done.returncode == 0
    assert "only its end is reported" in done.stderr
    start, end = sink.events()
    assert (end.name, end.trace_id, end.span_id) == ("wafer.job.end", start.trace_id, start.span_id)
    assert "wafer.job.start_time_unix_nano" not in end.attributes
    assert sink.runs() == []


def test_the_variable_alone_is_enough_for_the_final_span(env, sink, tmp_path):
    done = sh(
        f'eval "$(wafer start lot_yield --lot A)"; rm {tmp_path}/state/wafermonitor/runs/*; wafer progress 1/2; wafer end', env
    )
    assert (done.returncode, done.stderr) == (0, "")
    (span,) = sink.runs()
    assert span.attributes["wafer.lot.ids"] == ["A"]


def test_inner_runs_of_a_subshell_are_subjobs(env, sink):
    sh('eval "$(wafer start outer)"; (eval "$(wafer start inner)"; wafer end); wafer run --job step -- true; wafer end', env)
    (outer,) = sink.runs("outer")
    for name in ("inner", "step"):
        (inner,) = sink.runs(name)
        assert (inner.trace_id, inner.parent_span_id) == (outer.trace_id, outer.span_id)
        assert inner.attributes["wafer.job.parent.span.id"] == outer.span_id


def test_ids_as_json_hold_what_the_shell_text_sets(env, sink):
    found = json.loads(sh("wafer start x --run-id R --json", env).stdout)
    start = sink.events()[0]
    assert found["run"] == f"{start.trace_id}-{start.span_id}"
    assert found["run_id"] == "R"
    assert found["environment"]["TRACEPARENT"] == f"00-{start.trace_id}-{start.span_id}-03"


def test_a_script_does_not_die_of_its_monitoring(env, sink):
    sink.status = 500
    broken = {**env, "XDG_STATE_HOME": "/proc/none", "WAFER_SPOOL_DIR": "/proc/none", "WAFER_RUN": "{"}
    done = sh('wafer progress 1/2; wafer end; eval "$(wafer start x)"; wafer progress 1/2; wafer end; echo alive', broken)
    assert (done.returncode, done.stdout) == (0, "alive\n")
    assert "WAFER_RUN is not set" in done.stderr


def test_what_nobody_takes_is_in_the_spool(env, sink):
    sink.status = 503
    sh('eval "$(wafer start x)"; wafer end', env)
    files = list(Path(env["WAFER_SPOOL_DIR"]).glob("*/*.jsonl"))
    assert {path.parent.name for path in files} == {"logs", "traces"}


def test_wrong_use_is_refused(env):
    assert sh("wafer progress lots", env).returncode == 2
    assert sh("wafer end --job x", env).returncode == 2
