"""`wafer replay`: everything once, in order, past crashes and refusals, and one replay at a time."""

import contextlib
import fcntl
import http.server
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from wafermonitor.instrumentation.config import Config
from wafermonitor.instrumentation.endpoint import Endpoint
from wafermonitor.instrumentation.errors import InstrumentationUnavailable, SpoolRejected
from wafermonitor.instrumentation.replay import Replay, drain, files, is_sent, unsent, watch
from wafermonitor.instrumentation.spool import Spool, host_name

WAFER = [sys.executable, "-m", "wafermonitor.instrumentation.cli"]
DEAD_PID = 2**22 - 1


@pytest.fixture
def env(environment, sink):
    return {**environment, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url}


@pytest.fixture
def spool(environment):
    return Path(environment["WAFER_SPOOL_DIR"])


def span(name):
    spans = [{"traceId": "ab" * 16, "spanId": "cd" * 8, "name": name}]
    return {"resourceSpans": [{"resource": {}, "scopeSpans": [{"scope": {}, "spans": spans}]}]}


def event(name):
    return {"resourceLogs": [{"resource": {}, "scopeLogs": [{"scope": {}, "logRecords": [{"eventName": name}]}]}]}


def write(spool, signal_name, *lines, pid=DEAD_PID, begun=1, host=None):
    """A file that some process left behind; text is written as it is."""
    folder = spool / signal_name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{host or host_name()}-{pid}-{begun}.jsonl"
    with path.open("a") as file:
        file.writelines(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)
    return path


def endpoint(url):
    return Endpoint.of(Config(endpoint=url, timeout_s=5), {})


def replay(*arguments, env):
    return subprocess.run([*WAFER, "replay", *arguments], env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.slow
def test_all_of_it_arrives_events_first_and_the_files_of_the_dead_are_removed(env, sink, spool):
    write(spool, "traces", span("one"), begun=5)
    write(spool, "logs", event("second"), begun=9)
    write(spool, "logs", event("first"), begun=8)
    done = replay("--json", env=env)
    assert done.returncode == 0
    assert [item.name for item in sink.logs] == ["first", "second"]
    assert [item.name for item in sink.spans] == ["one"]
    summary = json.loads(done.stdout)
    assert (summary["lines"], summary["files_done"], summary["waiting_bytes"]) == (3, 3, 0)
    assert files(spool) == []


def test_what_waited_at_one_moment_is_sent_when_the_replay_is_past_it(spool, sink):
    begun = time.time_ns()
    path = write(spool, "logs", event("one"), pid=os.getpid(), begun=begun)
    before = unsent(spool)
    assert before == {f"logs/{path.name}": path.stat().st_size}
    assert not is_sent(spool, before)
    with Replay(spool, endpoint(sink.url)) as replay:
        replay.run()
    assert is_sent(spool, before)
    assert unsent(spool) == {}
    write(spool, "logs", event("two"), pid=os.getpid(), begun=begun)
    assert is_sent(spool, before)
    assert not is_sent(spool, unsent(spool))


def test_half_a_line_that_may_never_be_ended_and_blank_lines_hold_nothing_back(spool, sink):
    write(spool, "logs", event("whole"), "\n", '{"resourceLogs": [', pid=os.getpid(), begun=time.time_ns())
    write(spool, "logs", event("blank"), "\n", pid=os.getpid(), begun=time.time_ns())
    with Replay(spool, endpoint(sink.url)) as replay:
        replay.run()
    assert len(list(spool.rglob("*.jsonl"))) == 2
    assert unsent(spool) == {}


def test_spans_and_metrics_hold_no_log_record_back(spool):
    write(spool, "traces", span("waits"))
    assert unsent(spool) == {}


def test_what_a_full_disk_kept_from_being_noted_is_noted_later(spool, sink):
    write(spool, "logs", event("one"), pid=os.getpid(), begun=time.time_ns())
    before = unsent(spool)
    with Replay(spool, endpoint(sink.url)) as replay:
        (spool / ".replay.json.part").mkdir()
        replay.run()
        assert not is_sent(spool, before)
        (spool / ".replay.json.part").rmdir()
        replay.run()
        assert is_sent(spool, before)
    assert len(sink.logs) == 1


def test_what_is_sent_and_removed_does_not_wait(spool, sink):
    write(spool, "logs", event("gone"))
    before = unsent(spool)
    with Replay(spool, endpoint(sink.url)) as replay:
        replay.run()
    assert list(spool.rglob("*.jsonl")) == []
    assert is_sent(spool, before)


def test_a_living_writers_file_is_sent_as_far_as_it_goes_and_kept(sink, tmp_path):
    writer = Spool(tmp_path)
    writer.append("traces", span("one"))
    ((path, _),) = files(tmp_path)
    with Replay(tmp_path, endpoint(sink.url)) as first:
        first.run()
    writer.append("traces", span("two"))
    with path.open("a") as file:
        file.write('{"resourceSpans":[{"reso')
    with Replay(tmp_path, endpoint(sink.url)) as second:
        summary = second.run()
    assert [item.name for item in sink.spans] == ["one", "two"]
    assert path.exists()
    assert summary.waiting_bytes == 24
    writer.close()


def test_a_writer_without_a_lock_is_known_by_its_process(sink, tmp_path):
    path = write(tmp_path, "traces", span("one"), pid=os.getpid(), begun=time.time_ns())
    reused = write(tmp_path, "traces", span("two"), pid=os.getpid(), begun=1)
    foreign = write(tmp_path, "traces", span("three"), host="other")
    with Replay(tmp_path, endpoint(sink.url)) as once:
        once.run()
    assert path.exists()
    assert not reused.exists(), "the process with that number began later than the file"
    assert foreign.exists(), "a copy may still grow"
    os.utime(foreign, (1, 1))
    with Replay(tmp_path, endpoint(sink.url)) as again:
        again.run()
    assert not foreign.exists()
    assert len(sink.spans) == 3


@pytest.mark.slow
def test_half_written_lines_are_set_aside_and_what_follows_them_is_sent(env, sink, spool):
    half = json.dumps(span("lost"))[:70]
    write(spool, "traces", span("one"), half, span("two"), "\0\0\0\n", span("three"), half)
    done = replay("--json", env=env)
    assert done.returncode == 0
    assert [item.name for item in sink.spans] == ["one", "two", "three"]
    assert json.loads(done.stdout)["broken"] == 3
    (kept,) = (spool / "rejected" / "traces").glob("*.jsonl")
    assert half in kept.read_text()
    assert "half-written" in kept.with_suffix(".reasons").read_text()
    assert kept.stat().st_mode & 0o777 == 0o600
    assert files(spool) == []


@pytest.mark.slow
def test_a_last_line_without_its_end_counts_when_the_writer_is_gone(env, sink, spool):
    write(spool, "traces", json.dumps(span("whole")))
    done = replay(env=env)
    assert (done.returncode, done.stdout) == (0, "sent 1 lines in 1 requests, 1 files done\n")
    assert [item.name for item in sink.spans] == ["whole"]


def test_a_terminal_is_shown_a_bar(env, sink, spool):
    write(spool, "traces", span("one"))
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(WAFER[0], [*WAFER, "replay"], env)
    shown = b""
    with contextlib.suppress(OSError):  # how a terminal says that its last program is gone
        while data := os.read(terminal, 4096):
            shown += data
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0
    assert b"sending" in shown
    assert b"100%" in shown


class Picky(http.server.BaseHTTPRequestHandler):
    """Refuses what names a bad span for good, and everything once for now."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        server = self.server
        if server.busy:
            status, server.busy = server.busy.pop(0), server.busy
        else:
            status = 400 if b"bad" in body else 200
        server.seen.append((status, body, time.monotonic()))
        answer = b'{"message":"no such field"}' if status == 400 else b"{}"
        self.send_response(status)
        if status in {429, 503}:
            self.send_header("Retry-After", "1")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


@pytest.fixture
def picky():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Picky)
    server.daemon_threads = True
    server.busy, server.seen = [], []
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_only_the_guilty_line_is_rejected_and_its_reason_kept(picky, tmp_path):
    path = write(tmp_path, "traces", span("one"), span("bad"), span("two"))
    with Replay(tmp_path, endpoint(picky.url)) as once:
        summary = once.run()
    assert (summary.rejected, summary.lines) == (1, 2)
    assert not path.exists()
    rejected = tmp_path / "rejected" / "traces" / path.name
    assert json.loads(rejected.read_text()) == span("bad")
    assert "400: no such field" in rejected.with_suffix(".reasons").read_text()


@pytest.mark.slow
def test_a_busy_endpoint_is_asked_again_not_before_it_said(picky, tmp_path):
    picky.busy = [429, 503]
    write(tmp_path, "traces", span("one"))
    with Replay(tmp_path, endpoint(picky.url), patience_s=30) as once:
        once.run()
    assert [status for status, _, _ in picky.seen] == [429, 503, 200]
    assert picky.seen[1][2] - picky.seen[0][2] >= 1


@pytest.mark.slow
def test_an_endpoint_that_stays_away_leaves_the_spool_as_it_was(env, spool):
    path = write(spool, "traces", span("one"))
    done = replay("--patience", "100ms", "--json", env={**env, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"})
    assert done.returncode == 75
    assert "bytes stay in" in done.stderr
    assert json.loads(done.stdout)["waiting_bytes"] == path.stat().st_size


@pytest.mark.parametrize("status", [401, 403, 404])
def test_an_endpoint_that_takes_nothing_from_us_rejects_no_data(picky, tmp_path, status):
    picky.busy = [status]
    path = write(tmp_path, "traces", span("one"))
    with (
        pytest.raises(InstrumentationUnavailable, match=str(status)),
        Replay(tmp_path, endpoint(picky.url), patience_s=9) as once,
    ):
        once.run()
    assert path.exists()
    assert not (tmp_path / "rejected").exists()


def test_what_was_sent_is_remembered_when_replay_is_interrupted(picky, tmp_path):
    big = "x" * 700_000
    path = write(tmp_path, "traces", span("one" + big), span("two" + big))
    picky.busy = [200, 503]
    with pytest.raises(InstrumentationUnavailable), Replay(tmp_path, endpoint(picky.url)) as first:
        first.run()
    with Replay(tmp_path, endpoint(picky.url)) as second:
        second.run()
    taken = [body for status, body, _ in picky.seen if status == 200]
    assert [b'"one' in body for body in taken] == [True, False]
    assert not path.exists()


@pytest.mark.slow
def test_two_replays_never_share_a_spool(env, sink, spool):
    write(spool, "traces", span("one"))
    with Replay(spool, endpoint(sink.url)):
        second = replay(env=env)
        assert second.returncode == 75
        assert "another wafer replay" in second.stderr
        assert drain(spool, endpoint(sink.url)) is None
    assert sink.spans == []
    assert replay(env=env).returncode == 0
    assert len(sink.spans) == 1


def test_a_watch_waits_for_its_turn_and_then_sends(sink, spool):
    write(spool, "traces", span("one"))
    stop = threading.Event()
    asked = threading.Event()

    class Waiting(threading.Event):
        """Tells that the watch found the spool in use."""

        def wait(self, timeout=None):
            asked.set()
            return stop.wait(timeout)

        def is_set(self):
            return stop.is_set()

    done = []
    watching = watch(spool, endpoint(sink.url), interval_s=0.01, stop=Waiting())
    with Replay(spool, endpoint(sink.url)):
        thread = threading.Thread(target=lambda: done.append(next(watching)))
        thread.start()
        assert asked.wait(10)
    thread.join(10)
    assert [summary.lines for summary in done] == [1]
    stop.set()
    assert list(watching) == []


@pytest.mark.slow
def test_watching_sends_what_comes_and_ends_on_a_signal(env, sink, spool):
    process = subprocess.Popen(
        [*WAFER, "replay", str(spool), "--watch", "--interval", "200ms"],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        write(spool, "traces", span("one"))
        sink.wait_for(lambda seen: len(seen.spans) == 1)
        write(spool, "traces", span("two"), begun=7)
        sink.wait_for(lambda seen: len(seen.spans) == 2)
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, errors) == (0, b"")
    assert b"sent 1 lines" in output


@pytest.mark.slow
def test_a_spool_that_is_not_there_or_not_ours_is_named(env, tmp_path):
    assert "nothing to send" in replay(str(tmp_path / "none"), env=env).stdout
    with pytest.raises(SpoolRejected, match="no such folder"):
        Replay(tmp_path / "none", endpoint("http://127.0.0.1:9")).__enter__()


@pytest.mark.slow
def test_a_spool_that_cannot_be_made_is_one_line_and_no_traceback(env, tmp_path):
    (tmp_path / "file").write_text("")
    done = replay(str(tmp_path / "file" / "spool"), "--watch", env=env)
    assert done.returncode == 75
    assert done.stderr.startswith("Error: ")
    assert "Not a directory" in done.stderr


@pytest.mark.slow
def test_the_json_of_an_absent_spool_is_a_summary_of_nothing(env, tmp_path):
    assert json.loads(replay(str(tmp_path / "none"), "--json", env=env).stdout)["lines"] == 0


def test_a_file_under_a_writers_lock_is_never_removed(sink, tmp_path):
    path = write(tmp_path, "traces", span("one"))
    with path.open("a") as writer:
        fcntl.flock(writer, fcntl.LOCK_SH)
        with Replay(tmp_path, endpoint(sink.url)) as once:
            once.run()
        assert path.exists()
    with Replay(tmp_path, endpoint(sink.url)) as again:
        again.run()
    assert not path.exists()
    assert len(sink.spans) == 1
