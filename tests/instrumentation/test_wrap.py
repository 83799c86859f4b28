"""`wafer run`: the command does not notice, and its run arrives whole; real processes, a real endpoint."""

import contextlib
import json
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

WAFER = [sys.executable, "-m", "wafermonitor.instrumentation.cli"]


@pytest.fixture(autouse=True, scope="module")
def signals_as_in_a_terminal():
    """A shell ignores some signals for what it starts in the background, a test run for one, and children inherit that."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)}
    ignored = [number for number, action in before.items() if action is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture
def env(environment, sink):
    return {**environment, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url}


def wafer(*arguments, env, **more):
    return subprocess.run([*WAFER, *arguments], env=env, capture_output=True, timeout=60, check=False, **more)


@pytest.fixture
def begin():
    """Start `wafer …` and go on; what is left of it is ended and closed."""
    started = []

    def start(*arguments, env, **more):
        more = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
        started.append(subprocess.Popen([*WAFER, *arguments], env=env, **more))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        for file in (process.stdin, process.stdout, process.stderr):
            if file is not None:
                with contextlib.suppress(BrokenPipeError):
                    file.close()


def only_run(sink):
    (run,) = sink.runs()
    return run


def spooled(environment):
    found = []
    for path in Path(environment["WAFER_SPOOL_DIR"]).glob("*/*.jsonl"):
        found += [json.loads(line) for line in path.read_text().splitlines()]
    return json.dumps(found)


def test_a_run_is_announced_and_arrives_with_all_that_was_said_of_it(env, sink):
    done = wafer(
        *[
            "run",
            "--job",
            "lot_yield",
            "--run-id",
            "R7",
            "--lot",
            "GAL-LOT",
            "--lot",
            "B",
            "--equipment",
            "T1",
            "--recipe",
            "007",
        ],
        *["--attempt", "2", "--trigger", "schedule", "--expected-duration", "1h30m", "--deadline", "2026-11-22T18:00:00+01:00"],
        *["--attr", "shift=night", "--param", "dies=1569", "--param", "limit=0.5", "--", "sh", "-c", "echo out; echo err >&2"],
        env=env,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"out\n", b"err\n")
    assert [event.name for event in sink.events()] == ["wafer.job.start", "wafer.job.end"]
    start, end = sink.events()
    span = only_run(sink)
    assert span.name == span.attributes["wafer.job.name"] == "lot_yield"
    described = {
        "wafer.job.run.id": "R7",
        "wafer.lot.ids": ["GAL-LOT", "B"],
        "wafer.equipment.id": "T1",
        "wafer.recipe.name": "007",
        "wafer.job.attempt": 2,
        "wafer.job.trigger": "schedule",
        "wafer.job.expected_duration": 5400.0,
        "shift": "night",
        "wafer.param.dies": 1569,
        "wafer.param.limit": 0.5,
    }
    for item in (start, span):
        assert described.items() <= item.attributes.items()
    assert span.attributes["wafer.job.deadline"].endswith("00:00") or "+" in span.attributes["wafer.job.deadline"]
    assert {item.span_id for item in (start, end, span)} == {span.span_id}
    assert start.attributes["wafer.job.start_time_unix_nano"] == int(span.raw["startTimeUnixNano"])
    assert start.attributes["wafer.job.heartbeat.interval"] == 30.0
    assert span.attributes["wafer.job.result"] == end.attributes["wafer.job.result"] == "success"
    assert span.raw["status"] == {}
    assert span.attributes["process.exit.code"] == 0
    assert span.attributes["wafer.job.cpu.time"] >= 0
    assert span.attributes["wafer.job.memory.max"] > 100_000
    assert span.resource["wafer.site.id"] == "fab1"
    assert span.resource["service.name"] == "lot_yield"
    assert span.resource_keys[0] == "service.instance.id"
    assert "parentSpanId" not in span.raw


@pytest.mark.parametrize(
    ("script", "code", "ended"),
    [
        ("exit 7", 7, ("failure", "exit.7")),
        ("kill -KILL $$", 137, ("error", "signal.SIGKILL")),
        ("kill -TERM $$", 143, ("error", "signal.SIGTERM")),
    ],
)
def test_the_exit_code_is_kept_and_says_how_the_run_ended(env, sink, script, code, ended):
    assert wafer("run", "--", "sh", "-c", script, env=env).returncode == code
    span = only_run(sink)
    assert span.name == "sh"
    assert (span.attributes["wafer.job.result"], span.attributes["error.type"]) == ended
    assert span.attributes["process.exit.code"] == code
    assert span.raw["status"]["code"] == 2
    (end,) = sink.events("wafer.job.end")
    assert end.raw["severityNumber"] == 17


def test_a_missing_command_is_127_and_one_that_cannot_run_is_126(env, sink, tmp_path):
    missing = wafer("run", "--", "no-such-command", env=env)
    assert (missing.returncode, missing.stderr) == (127, b"wafer run: no-such-command: No such file or directory\n")
    (tmp_path / "plain").write_text("text")
    assert wafer("run", "--", str(tmp_path / "plain"), env=env).returncode == 126
    first, second = sink.runs()
    assert (first.attributes["wafer.job.result"], first.attributes["error.type"]) == ("error", "FileNotFoundError")
    assert second.attributes["error.type"] == "PermissionError"


def test_a_script_without_an_interpreter_line_runs_as_under_a_shell(env, tmp_path):
    script = tmp_path / "job"
    script.write_text("echo $1; exit 3\n")
    script.chmod(0o755)
    done = wafer("run", "--", str(script), "hello", env=env)
    assert (done.returncode, done.stdout) == (3, b"hello\n")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"])
def test_a_signal_that_ends_is_forwarded_and_means_cancellation(begin, env, sink, name):
    number = getattr(signal, name)
    process = begin("run", "--", "sh", "-c", "ulimit -c 0; echo up; exec sleep 60", env=env)
    assert process.stdout.readline() == b"up\n"
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == 128 + number
    span = only_run(sink)
    assert (span.attributes["wafer.job.result"], span.attributes["error.type"]) == ("cancellation", f"signal.{name}")
    assert span.raw["status"] == {}


def test_a_user_signal_is_forwarded_and_ends_nothing(begin, env, sink):
    script = 'trap "echo got" USR1; echo up; while :; do read line || exit 0; [ "$line" = go ] && exit 0; done'
    process = begin("run", "--", "bash", "-c", script, env=env, stdin=subprocess.PIPE)
    assert process.stdout.readline() == b"up\n"
    process.send_signal(signal.SIGUSR1)
    process.stdin.write(b"x\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"got\n"
    process.communicate(b"go\n", timeout=30)
    assert process.returncode == 0
    assert only_run(sink).attributes["wafer.job.result"] == "success"


def test_a_command_that_ends_well_although_asked_to_stop_has_succeeded(begin, env, sink):
    process = begin("run", "--", "bash", "-c", 'trap "exit 0" TERM; echo up; while :; do sleep 0.02; done', env=env)
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert only_run(sink).attributes["wafer.job.result"] == "success"


def test_a_signal_that_the_caller_ignores_stays_ignored(begin, env, sink):
    process = begin(
        *["run", "--", "sh", "-c", "grep SigIgn /proc/$$/status; echo up; read line"],
        env=env,
        stdin=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    ignored = int(process.stdout.readline().split()[1], 16)
    # The C library's own signals 32 and 33 are ignored in whatever posix_spawn starts.
    assert ignored & 0x7FFFFFFF == 1 << (signal.SIGHUP - 1), "only what the caller ignored, and not what Python ignores"
    process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    process.communicate(b"go\n", timeout=30)
    assert process.returncode == 0
    assert only_run(sink).attributes["wafer.job.result"] == "success"


def test_a_timeout_ends_the_whole_tree_by_term_then_kill(env, sink):
    script = 'trap "" TERM; sleep 60 & echo $!; wait; wait'
    done = wafer("run", "--timeout", "300ms", "--kill-after", "300ms", "--", "bash", "-c", script, env=env)
    assert done.returncode == 137
    until(lambda: gone(int(done.stdout)))
    span = only_run(sink)
    assert (span.attributes["wafer.job.result"], span.attributes["error.type"]) == ("timeout", "timeout")
    assert "0.3 s" in span.raw["status"]["message"]


def test_a_command_that_ends_well_only_because_of_its_timeout_has_not_succeeded(env, sink):
    done = wafer("run", "--timeout", "300ms", "--", "bash", "-c", 'trap "exit 0" TERM; while :; do sleep 0.02; done', env=env)
    assert done.returncode == 124
    assert only_run(sink).attributes["wafer.job.result"] == "timeout"


def test_the_command_finds_its_parent_in_the_environment(env, sink):
    outer = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-00"
    done = wafer(
        "run", "--", "sh", "-c", "echo $TRACEPARENT $TRACESTATE", env={**env, "TRACEPARENT": outer, "TRACESTATE": "a=b"}
    )
    span = only_run(sink)
    assert (span.trace_id, span.parent_span_id) == ("ab" * 16, "cd" * 8)
    assert span.attributes["wafer.job.parent.span.id"] == "cd" * 8
    assert span.raw["traceState"] == "a=b"
    assert done.stdout.decode() == f"00-{span.trace_id}-{span.span_id}-01 a=b\n"


def test_a_parent_flag_can_be_kept_and_a_broken_parent_is_none(env, sink):
    outer = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-00"
    kept = wafer("run", "--", "sh", "-c", "echo $TRACEPARENT", env={**env, "TRACEPARENT": outer, "WAFER_PARENT_FLAG": "keep"})
    assert kept.stdout.strip().endswith(b"-00")
    broken = {**env, "TRACEPARENT": "00-zz", "TRACESTATE": "a=b"}
    done = wafer("run", "--", "sh", "-c", "echo $TRACEPARENT $TRACESTATE", env=broken)
    root = sink.runs()[-1]
    assert "parentSpanId" not in root.raw
    assert done.stdout.decode() == f"00-{root.trace_id}-{root.span_id}-03\n"


@pytest.mark.skipif(not shutil.which("perl"), reason="no perl on this machine")
def test_a_perl_step_inside_becomes_the_subjob(env, sink):
    inner = f"'{sys.executable}' -m wafermonitor.instrumentation.cli run --job perl_step -- perl -e 'print \"dies 12\\n\"'"
    done = wafer("run", "--job", "outer", "--", "sh", "-c", inner, env=env)
    assert (done.returncode, done.stdout) == (0, b"dies 12\n")
    (outer,) = sink.runs("outer")
    (step,) = sink.runs("perl_step")
    assert (step.trace_id, step.parent_span_id) == (outer.trace_id, outer.span_id)
    (start,) = sink.events("wafer.job.start", job="perl_step")
    assert start.attributes["wafer.job.parent.span.id"] == outer.span_id


def test_progress_written_to_its_file_is_told_and_the_last_always(env, sink):
    script = (
        'for i in 1 2 3; do echo "$i/4 wafer $i" >&$WAFER_PROGRESS_FD; done; '
        "echo nonsense >&$WAFER_PROGRESS_FD; printf 4/4 >&$WAFER_PROGRESS_FD"
    )
    done = wafer("run", "--", "dash" if shutil.which("dash") else "sh", "-c", script, env=env)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    last = sink.events("wafer.job.progress")[-1]
    assert last.attributes["wafer.job.progress.ratio"] == 1.0
    assert (last.attributes["wafer.job.progress.completed"], last.attributes["wafer.job.progress.total"]) == (4.0, 4.0)
    assert only_run(sink).attributes["wafer.job.progress.ratio"] == 1.0


@pytest.mark.skipif(not shutil.which("perl"), reason="no perl on this machine")
def test_the_guides_perl_lines_tell_progress(env, sink, repository):
    guide = (repository / "docs" / "instrument-a-script.md").read_text()
    lines = guide.partition("```perl\n")[2].partition("```")[0]
    assert wafer("run", "--", "perl", "-we", lines, env=env).returncode == 0
    (event,) = sink.events("wafer.job.progress")
    assert event.attributes["wafer.job.progress.message"] == "wafer 3"
    assert wafer("run", "--mode", "off", "--", "perl", "-we", lines, env=env).stderr == b""


def test_a_system_without_the_needed_calls_runs_the_command_all_the_same(env, sink):
    code = (
        "import signal, sys\ndel signal.sigtimedwait\nfrom wafermonitor.instrumentation.cli import main\n"
        "sys.exit(main(['run', '--', 'sh', '-c', 'echo fine; exit 3']))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (3, b"fine\n")
    assert b"Linux only" in done.stderr


def test_wafer_progress_inside_tells_the_run_around_it(env, sink):
    inner = f"'{sys.executable}' -m wafermonitor.instrumentation.cli progress 1/4 'first wafer'"
    assert wafer("run", "--job", "outer", "--", "sh", "-c", inner, env=env).returncode == 0
    (event,) = sink.events("wafer.job.progress")
    assert event.attributes["wafer.job.name"] == "outer"
    assert event.attributes["wafer.job.progress.message"] == "first wafer"


def test_ten_megabytes_pass_unchanged_while_progress_is_read_from_them(env, sink, tmp_path):
    program = (
        "import os, sys\n"
        "for i in range(1, 101):\n"
        "    data = os.urandom(100_000) + b'\\nstep %d of 100\\r' % i\n"
        "    sys.stdout.buffer.write(data)\n"
        "sys.stdout.flush()\n"
    )
    (tmp_path / "program.py").write_text(program.replace("os.urandom(100_000)", "bytes(range(256)) * 400"))
    command = [sys.executable, str(tmp_path / "program.py")]
    alone = subprocess.run(command, capture_output=True, check=True).stdout
    done = wafer("run", "--progress-regex", r"step (\d+) of (\d+)", "--", *command, env=env)
    assert len(alone) > 10_000_000
    assert done.stdout == alone
    assert only_run(sink).attributes["wafer.job.progress.ratio"] == 1.0
    assert len(sink.events("wafer.job.progress")) <= 102


def test_the_end_of_the_output_is_sent_only_when_asked_for_and_only_on_failure(env, sink):
    script = "echo first; echo secret-tail >&2; exit %d"
    wafer("run", "--", "sh", "-c", script % 1, env=env)
    wafer("run", "--tail-bytes", "100", "--", "sh", "-c", script % 0, env=env)
    assert not any("body" in event.raw for event in sink.events("wafer.job.end"))
    done = wafer("run", "--tail-bytes", "14", "--", "sh", "-c", script % 1, env=env)
    assert (done.stdout, done.stderr) == (b"first\n", b"secret-tail\n")
    body = sink.events("wafer.job.end")[-1].raw["body"]["stringValue"]
    assert len(body) == 14
    assert "secret-tail" in body or "first" in body


def test_output_of_a_process_left_behind_is_neither_cut_nor_waited_for(begin, env, sink, tmp_path):
    fifo = tmp_path / "go"
    os.mkfifo(fifo)
    process = begin("run", "--tail-bytes", "9", "--", "sh", "-c", f"(read line < {fifo}; echo late) & echo early", env=env)
    assert process.wait(timeout=30) == 0
    fifo.write_text("now\n")
    assert process.stdout.read() == b"early\nlate\n"


def test_arguments_and_environment_never_leave(env, sink):
    secret = "hunter2-in-argv"
    env = {**env, "DB_PASSWORD": "hunter2-in-env"}
    wafer("run", "--", "sh", "-c", f"echo {secret} >/dev/null; exit 1", secret, env=env)
    wafer("run", "--", "no-such-command", secret, env=env)
    only = b"".join(sink.bodies)
    assert len(sink.runs()) == 2
    assert b"hunter2" not in only


def test_closed_files_stay_closed_for_the_command_and_harm_nothing(env, sink):
    def close():
        os.close(0)
        os.close(1)

    look = "for n in 0 1 2; do [ -e /proc/$$/fd/$n ] && echo $n >&2; done"
    done = subprocess.run(
        [*WAFER, "run", "--tail-bytes", "50", "--", "sh", "-c", f"{look}; true"],
        env=env,
        stderr=subprocess.PIPE,
        preexec_fn=close,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert done.stderr == b"2\n"
    assert only_run(sink).attributes["wafer.job.result"] == "success"


def test_files_that_the_caller_opened_reach_the_command(env, tmp_path):
    with (tmp_path / "lock").open("w") as file:
        number = file.fileno()
        done = wafer("run", "--", "bash", "-c", f"echo held >&{number}", env=env, pass_fds=[number])
    assert done.returncode == 0
    assert (tmp_path / "lock").read_text() == "held\n"


def test_a_reader_that_goes_away_ends_the_command_as_it_would_alone(begin, env, sink):
    process = begin("run", "--progress-regex", r"(\d+)%", "--", "yes", env=env)
    process.stdout.read(2)
    process.stdout.close()
    assert process.wait(timeout=30) == 128 + signal.SIGPIPE


def test_ctrl_c_on_a_terminal_reaches_the_command_once(env, sink):
    pid, terminal = pty.fork()
    if pid == 0:
        count = "count=0; trap 'count=$((count+1))' INT; echo up; while [ $count -eq 0 ]; do sleep 0.05; done"
        script = f"{count}; sleep 0.3; exit $count"
        with contextlib.suppress(BaseException):
            os.execve(WAFER[0], [*WAFER, "run", "--", "bash", "-c", script], env)
        os._exit(99)
    output = b""
    try:
        while b"up" not in output:
            output += os.read(terminal, 100)
        os.write(terminal, b"\x03")
        _, status = os.waitpid(pid, 0)
    except BaseException:  # the time limit: leave nothing running
        os.kill(pid, signal.SIGKILL)
        raise
    finally:
        os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 1, "the command counted its interrupts"
    assert only_run(sink).attributes["wafer.job.result"] == "cancellation"


def test_heartbeats_carry_what_the_command_uses(begin, env, sink):
    process = begin(
        "run",
        "--heartbeat",
        "200ms",
        "--",
        "sh",
        "-c",
        "echo 1/2 >&$WAFER_PROGRESS_FD; read line",
        env=env,
        stdin=subprocess.PIPE,
    )
    sink.wait_for(lambda seen: len(seen.events("wafer.job.heartbeat")) >= 2)
    process.communicate(b"go\n", timeout=30)
    first, second = sink.events("wafer.job.heartbeat")[:2]
    assert [first.attributes["wafer.job.heartbeat.sequence"], second.attributes["wafer.job.heartbeat.sequence"]] == [1, 2]
    assert second.attributes["wafer.job.heartbeat.interval"] == 0.2
    assert second.attributes["wafer.job.memory.max"] > 100_000
    assert second.attributes["wafer.job.progress.ratio"] == 0.5
    assert second.raw["severityNumber"] == 5
    assert second.resource["process.pid"] == process.pid


def test_a_wrapper_that_is_killed_leaves_its_start_and_the_command_unharmed(begin, env, sink, tmp_path):
    marker = tmp_path / "done"
    tell = "echo 1/2 >&$WAFER_PROGRESS_FD; echo 2/2 >&$WAFER_PROGRESS_FD"
    script = f"echo $$; read line; {tell}; echo well > {marker}.part; mv {marker}.part {marker}"
    process = begin("run", "--", "sh", "-c", script, env=env, stdin=subprocess.PIPE)
    child = int(process.stdout.readline())
    process.kill()
    process.wait(timeout=30)
    assert [event.name for event in sink.events()] == ["wafer.job.start"]
    process.stdin.write(b"go\n")
    process.stdin.flush()
    until(lambda: gone(child))
    assert marker.read_text() == "well\n"
    process.communicate()


def test_nothing_answers_then_all_of_it_is_in_the_spool(environment, env):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        dead = {**env, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{held.getsockname()[1]}"}
        assert wafer("run", "--", "sh", "-c", "exit 5", env=dead).returncode == 5
    text = spooled(environment)
    assert '"wafer.job.start"' in text
    assert '"wafer.job.end"' in text
    assert '"exit.5"' in text
    assert '"spans"' in text


def test_a_black_hole_costs_less_than_the_budget_and_loses_nothing(environment, env, sink):
    sink.silent.set()
    del env["WAFER_INSTRUMENTATION_BLOCKING_S"]
    waits = [measured(env, "run", "--", "true") - measured(env, "run", "--mode", "off", "--", "true") for _ in range(3)]
    assert min(waits) < 0.3
    assert spooled(environment).count('"wafer.job.end"') == 3


def test_a_refusing_endpoint_and_a_full_disk_change_nothing_for_the_command(env, sink):
    sink.status = 503
    assert wafer("run", "--spool", "/proc/nowhere", "--", "sh", "-c", "exit 4", env=env).returncode == 4


def test_the_next_run_sends_what_an_earlier_one_had_to_keep(begin, environment, env, sink):
    wafer("run", "--job", "kept", "--mode", "file", "--", "true", env=env)
    assert not sink.runs()
    process = begin("run", "--job", "next", "--", "sh", "-c", "read line", env=env, stdin=subprocess.PIPE)
    sink.wait_for(lambda seen: seen.runs("kept"))
    process.communicate(b"go\n", timeout=30)
    assert len(sink.runs("kept")) == 1


def test_mode_off_sends_nothing_and_leaves_the_environment_alone(environment, env, sink):
    done = wafer("run", "--mode", "off", "--", "sh", "-c", "echo [$TRACEPARENT$WAFER_PROGRESS_FD]", env=env)
    assert done.stdout == b"[]\n"
    assert not sink.bodies
    assert not Path(environment["WAFER_SPOOL_DIR"]).exists()


def test_wrong_settings_do_not_stop_the_command(env):
    broken = {
        **env,
        "WAFER_MODE": "sideways",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "gopher://x y",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "soon",
    }
    done = wafer("run", "--", "echo", "fine", env=broken)
    assert (done.returncode, done.stdout) == (0, b"fine\n")


def test_the_sdk_is_never_loaded(env, sink):
    code = (
        "import sys\nfrom wafermonitor.instrumentation.cli import main\n"
        "assert main(['run', '--', 'true']) == 0\n"
        "print([name for name in sys.modules if name.startswith(('opentelemetry', 'google', 'pydantic', 'asyncio'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def measured(env, *arguments):
    began = time.monotonic()
    wafer(*arguments, env=env)
    return time.monotonic() - began


def gone(pid):
    """It has ended, whether or not somebody has asked how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def until(condition, timeout_s=10.0):
    """Ask again until it holds: what is awaited here is another process, which has no event to wait on."""
    pause = threading.Event()
    limit = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < limit, "not in time"
        pause.wait(0.01)
