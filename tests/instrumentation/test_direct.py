"""Mode direct: the first backend of the list that takes a request has it, and the spool what none took."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest
from click.testing import CliRunner

import wafermonitor.instrumentation as wafer
from tests.servers import http_sink, otlp_sink
from wafermonitor.instrumentation import backends, export, otlp_json, providers
from wafermonitor.instrumentation.command import replay, status
from wafermonitor.instrumentation.config import Config
from wafermonitor.instrumentation.direct import Direct
from wafermonitor.instrumentation.environment import EnvironmentConfig, option
from wafermonitor.instrumentation.sdk_file import Backend
from wafermonitor.instrumentation.spool import Spool

Telemetry = Callable[..., providers.Telemetry]
NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def hook() -> Iterator[http_sink.Server]:
    with http_sink.start() as server:
        yield server


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., str]:
    """Write a configuration file of these entries; gives its path."""

    def write(*entries: dict[str, Any]) -> str:
        path = tmp_path / "sdk.json"
        path.write_text(json.dumps({"mode": "direct", "direct_backends": list(entries)}))
        return str(path)

    return write


@pytest.fixture
def into(telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch, file: Callable[..., str]) -> Callable[..., providers.Telemetry]:
    """Telemetry of this process that goes to these entries."""
    monkeypatch.setattr(export, "_PROBE_FIRST_S", 0.05)
    monkeypatch.setattr(backends, "_REST_S", (0.05, 0.2))

    def make(*entries: dict[str, Any], **changes: str) -> providers.Telemetry:
        monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT")
        return telemetry(WAFER_SDK_CONFIG=file(*entries), **changes)

    return make


def webhook(server: http_sink.Server | None, **more: Any) -> dict[str, Any]:
    url = server.url if server else NOBODY
    return {"type": "webhook", "url": f"{url}/{{signal}}", "wait_s": 5, **more}


def otlp(server: otlp_sink.Server) -> dict[str, Any]:
    return {"type": "otlp", "url": server.url, "wait_s": 5}


def spans(hook: http_sink.Server) -> list[str]:
    """Names of the spans that a webhook took."""
    taken = [request.json for request in hook.requests if request.path == "/traces" and request.status == 200]
    return [
        span["name"]
        for request in taken
        for resource in request["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]


def spooled(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.glob("*/*.jsonl"))


def wait_until(found: Callable[[], bool]) -> None:
    until_s = time.monotonic() + 30
    while not found():
        assert time.monotonic() < until_s, "not within 30 s"
        time.sleep(0.01)


def test_the_first_that_answers_has_all_of_it(into: Any, hook: http_sink.Server, sink: otlp_sink.Server) -> None:
    into(webhook(hook), otlp(sink))
    with wafer.job("a"):
        pass
    assert spans(hook) == ["a"]
    assert {"/logs", "/traces"} <= {request.path for request in hook.requests}
    providers.close()
    assert not sink.spans
    assert not sink.logs


def test_the_next_one_has_what_the_first_does_not_take(into: Any, hook: http_sink.Server, sink: otlp_sink.Server) -> None:
    made = into(webhook(None), webhook(hook), otlp(sink))
    with wafer.job("a"):
        pass
    hook.status = 503
    with wafer.job("b"):
        pass
    assert spans(hook) == ["a"]
    assert len(sink.runs("b")) == 1
    assert spooled(made.config.spool_dir) == ""


def test_a_backend_that_hangs_is_left_behind_and_asked_again_once_it_answers(
    into: Any, hook: http_sink.Server, sink: otlp_sink.Server
) -> None:
    hook.slow = threading.Event()
    made = into(webhook(hook, wait_s=0.1), otlp(sink))
    with wafer.job("a"):
        pass
    assert len(sink.runs("a")) == 1
    assert len(hook.requests) == 1, "asked while it hung"
    hook.slow.set()
    hook.slow = None

    def comes_back() -> bool:
        with wafer.job("b"):
            pass
        return "b" in spans(hook)

    wait_until(comes_back)
    assert spooled(made.config.spool_dir) == ""


def test_a_job_waits_for_backends_that_hang_no_longer_than_its_budget(into: Any, hook: http_sink.Server) -> None:
    hook.silent.set()
    made = into(webhook(hook), webhook(hook), WAFER_INSTRUMENTATION_BLOCKING_S="0.2")
    began_s = time.monotonic()
    with wafer.job("a"):
        pass
    providers.close()
    assert time.monotonic() - began_s < 0.2 + 0.5, "0.5 s for a loaded machine"
    assert spooled(made.config.spool_dir).count('"eventName":"wafer.job.end"') == 1


def test_the_spool_is_the_last_and_is_sent_when_a_backend_comes_back(into: Any, hook: http_sink.Server) -> None:
    hook.status = 503
    made = into(webhook(None), webhook(hook))
    with wafer.job("a"):
        pass
    assert spooled(made.config.spool_dir).count("wafer.job.end") == 1
    hook.status = 200
    wait_until(lambda: "a" in spans(hook))
    assert any(b'"wafer.job.end"' in request.body for request in hook.requests if request.status == 200)


def test_a_wrong_entry_is_left_out_and_said_once(into: Any, hook: http_sink.Server, caplog: pytest.LogCaptureFixture) -> None:
    into({"type": "carrier pigeon"}, webhook(hook, token="${env:NOBODY_SET_THIS}"), webhook(hook))
    for name in ("a", "b"):
        with wafer.job(name):
            pass
    assert spans(hook) == ["a", "b"]
    assert caplog.text.count("direct_backends[0]: there is no writer 'carrier pigeon'") == 1
    assert caplog.text.count("direct_backends[1].token: the variable NOBODY_SET_THIS is not set") == 1


def test_what_a_writer_has_against_its_settings_is_told_with_its_place(
    into: Any, hook: http_sink.Server, caplog: pytest.LogCaptureFixture
) -> None:
    into({"type": "files"}, webhook(hook))
    with wafer.job("a"):
        pass
    assert spans(hook) == ["a"]
    assert "direct_backends[0]: files.dir names no folder (set WAFER_FILES_DIR); this backend is left out" in caplog.text


def test_nothing_is_lost_while_no_entry_can_be_used(into: Any) -> None:
    made = into({"type": "carrier pigeon"})
    with wafer.job("a"):
        pass
    assert spooled(made.config.spool_dir).count('"eventName":"wafer.job.end"') == 1


@pytest.mark.parametrize(("program", "jobs"), [("fork", ["child", "outer"]), ("sys_exit", ["outer"])])
def test_a_process_that_forks_or_exits_reports_to_its_backends(
    program: str, jobs: list[str], start: Callable[..., subprocess.Popen[str]], hook: http_sink.Server, file: Any
) -> None:
    path = file(webhook(hook))
    process = start(program, WAFER_SDK_CONFIG=path, WAFER_INSTRUMENTATION_BLOCKING_S="30")
    _, errors = process.communicate(timeout=60)
    assert errors == ""
    assert sorted(spans(hook)) == jobs
    assert spooled(Path(path).with_name("spool")) == ""


def test_without_a_list_direct_is_any_otlp_endpoint(telemetry: Telemetry, sink: otlp_sink.Server) -> None:
    telemetry(WAFER_MODE="direct")
    with wafer.job("a"):
        pass
    assert len(sink.runs("a")) == 1


def test_in_mode_sidecar_the_list_waits(
    telemetry: Telemetry, sink: otlp_sink.Server, hook: http_sink.Server, file: Any
) -> None:
    telemetry(WAFER_MODE="sidecar", WAFER_SDK_CONFIG=file(webhook(hook)))
    with wafer.job("a"):
        pass
    assert len(sink.runs("a")) == 1
    assert not hook.requests


def test_backends_are_chosen_by_the_environment_alone(
    telemetry: Telemetry, hook: http_sink.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    telemetry(WAFER_MODE="direct", WAFER_DIRECT_BACKENDS="webhook", WAFER_WEBHOOK_URL=f"{hook.url}/{{signal}}")
    with wafer.job("a"):
        pass
    assert spans(hook) == ["a"]


def test_the_program_is_named_as_the_file_says(telemetry: Telemetry, sink: otlp_sink.Server, tmp_path: Path) -> None:
    path = tmp_path / "sdk.json"
    path.write_text(json.dumps({"app": {"name": "yield", "version": "2.0", "site_id": "fab8"}}))
    telemetry(WAFER_SDK_CONFIG=str(path), WAFER_SITE_ID="")
    with wafer.job("a"):
        pass
    [run] = sink.runs("a")
    assert (run.resource["service.name"], run.resource["service.version"]) == ("yield", "2.0")
    assert run.resource["wafer.site.id"] == "fab8"


def test_a_wrapped_command_is_reported_to_the_backends_and_replay_sends_what_they_missed(
    environment: dict[str, str], hook: http_sink.Server, file: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = environment | {"WAFER_SDK_CONFIG": file(webhook(None), webhook(hook))}
    command = [sys.executable, "-m", "wafermonitor.instrumentation.cli", "run", "--job"]
    subprocess.run([*command, "a", "--", "true"], env=environ, check=True, timeout=60)
    assert spans(hook) == ["a"]
    hook.status = 503
    subprocess.run([*command, "b", "--", "true"], env=environ, check=True, timeout=60)
    hook.status = 200
    for name, value in environ.items():
        if name.startswith("WAFER_"):
            monkeypatch.setenv(name, value)
    done = CliRunner().invoke(replay, ["--json"], catch_exceptions=False)
    assert json.loads(done.output)["files_done"] == 2, "log records and the span"
    assert spans(hook) == ["a", "b"]
    [record] = [request.json for request in hook.requests if request.path == "/traces" and b'"b"' in request.body][-1][
        "resourceSpans"
    ][0]["scopeSpans"][0]["spans"]
    assert len(record["traceId"]) == 32


def test_status_names_each_backend_and_who_takes_it(
    hook: http_sink.Server, file: Any, environment: Any, monkeypatch: Any
) -> None:
    monkeypatch.setenv("WAFER_SPOOL_DIR", environment["WAFER_SPOOL_DIR"])
    monkeypatch.setenv("WAFER_SDK_CONFIG", file(webhook(None), webhook(hook)))
    said = CliRunner().invoke(status, ["--json"], catch_exceptions=False, standalone_mode=False)
    found = json.loads(said.output)
    assert (said.return_value, found["arriving"], found["why"]) == (0, "yes", "webhook takes it")
    assert found["direct_backends[0]"].startswith("webhook does not answer: ")
    assert found["direct_backends[1]"] == "webhook answers"
    monkeypatch.setenv("WAFER_SDK_CONFIG", file(webhook(None)))
    said = CliRunner().invoke(status, ["--json"], catch_exceptions=False, standalone_mode=False)
    assert (said.return_value, json.loads(said.output)["arriving"]) == (1, "not yet")


def test_a_fork_waits_until_a_client_library_is_loaded() -> None:
    loading, loaded = threading.Event(), threading.Event()

    def load() -> None:
        with backends._loading:
            loading.set()
            threading.Event().wait(0.3)
            loaded.set()

    loader = threading.Thread(target=load)
    loader.start()
    assert loading.wait(10)
    child = os.fork()
    if child == 0:
        os._exit(0 if backends._loading.acquire(blocking=False) else 1)
    waited = loaded.is_set()
    loader.join(10)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "the child's own lock is held by nobody"
    assert waited, "forked while a library was being loaded"


def test_writers_are_let_go_of_once_they_are_closed(hook: http_sink.Server) -> None:
    before = list(backends._opened)
    direct = Direct.of(Config(mode="direct", direct_backends=(Backend(type="webhook", settings={"url": hook.url}),)), {})
    assert direct.check()[0][1] == ""
    assert len(backends._opened) == len(before) + 1
    direct.close(10)
    assert backends._opened == before


# What a writer may answer, one word after the other: a writer of our own that is told what to answer.


class Told(NamedTuple):
    value: str


class Answer(NamedTuple):
    fate: Told
    reason: str = ""
    remains: bytes = b""


@dataclass(frozen=True, kw_only=True)
class BoxConfig(EnvironmentConfig):
    component: ClassVar[str] = "box"
    number: int = option(int, "Which box.", default=0)


class Box:
    """Answers as `answers` says, and keeps what it was given."""

    config_type: ClassVar[type[EnvironmentConfig]] = BoxConfig
    signals: ClassVar[frozenset[Any]] = frozenset({"traces", "logs"})
    answers: ClassVar[dict[int, Answer]] = {}
    taken: ClassVar[list[tuple[int, str, bytes]]] = []

    def __init__(self, config: BoxConfig) -> None:
        self.number = config.number

    def write(self, signal: str, requests: Sequence[bytes]) -> list[Answer]:
        answer = self.answers.get(self.number, Answer(Told("accepted")))
        if answer.fate.value == "raise":
            raise RuntimeError("http://user:s3cret@host")
        self.taken += [(self.number, signal, request) for request in requests]
        return [answer]

    def check(self) -> None:
        pass

    def close(self) -> None:
        pass


def request(*bodies: str) -> bytes:
    records = [
        otlp_json.log_record(
            event_name="e", time_ns=1, severity="INFO", attributes={}, trace_id=bytes(16), span_id=bytes(8), body=body
        )
        for body in bodies
    ]
    found = otlp_json.logs_request({}, records, scope={})
    serialized: bytes = otlp_json.proto_from_request("logs", found).SerializeToString()
    return serialized


@pytest.fixture
def boxes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Direct]]:
    monkeypatch.setattr(backends, "find", lambda _: Box)
    monkeypatch.setattr(Box, "taken", [])
    with ExitStack() as stack:

        def make(*answers: Answer) -> Direct:
            monkeypatch.setattr(Box, "answers", dict(enumerate(answers)))
            listed = tuple(Backend(type="box", settings={"number": number}) for number in range(len(answers)))
            direct = Direct.of(Config(mode="direct", direct_backends=listed, spool_dir=tmp_path / "spool"), {})
            stack.callback(direct.close)
            return direct

        yield make


ACCEPTED, RETRY, REJECTED = Answer(Told("accepted")), Answer(Told("retry"), "away"), Answer(Told("rejected"), "too long")
PROTOBUF = {"content_type": "application/x-protobuf"}


@pytest.mark.parametrize(
    ("answers", "outcome", "asked"),
    [
        ([ACCEPTED, ACCEPTED], "accepted", [0]),
        ([RETRY, ACCEPTED], "accepted", [0, 1]),
        ([REJECTED, ACCEPTED], "accepted", [0, 1]),
        ([REJECTED, RETRY], "retry", [0, 1]),
        ([RETRY, REJECTED], "retry", [0, 1]),
        ([REJECTED, REJECTED], "rejected", [0, 1]),
        ([Answer(Told("raise")), ACCEPTED], "accepted", [1]),
    ],
)
def test_what_becomes_of_a_request(answers: list[Answer], outcome: str, asked: list[int], boxes: Any) -> None:
    answer = boxes(*answers).post("logs", request("a"), **PROTOBUF)
    assert answer.outcome == outcome
    assert [number for number, _, _ in Box.taken] == asked


def test_items_that_one_refuses_are_offered_to_the_next(boxes: Any) -> None:
    rest = request("b")
    direct = boxes(Answer(Told("accepted"), "1 item is too long", rest), ACCEPTED)
    assert direct.post("logs", request("a", "b"), **PROTOBUF).outcome == "accepted"
    assert Box.taken == [(0, "logs", request("a", "b")), (1, "logs", rest)]


def test_a_request_that_one_refuses_as_a_whole_is_offered_as_a_whole(boxes: Any) -> None:
    direct = boxes(Answer(Told("rejected"), "too long", request("b")), ACCEPTED)
    assert direct.post("logs", request("a", "b"), **PROTOBUF).outcome == "accepted"
    assert Box.taken[-1] == (1, "logs", request("a", "b"))


def test_items_that_all_refuse_are_kept_with_what_is_refused(
    boxes: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rest = request("b")
    direct = boxes(Answer(Told("accepted"), "1 item is too long", rest), REJECTED)
    answer = direct.post("logs", request("a", "b"), **PROTOBUF)
    assert (answer.outcome, "too long" in answer.reason) == ("accepted", True)
    [line] = spooled(tmp_path / "spool" / "rejected").splitlines()
    assert otlp_json.proto_from_request("logs", json.loads(line)).SerializeToString() == rest
    assert "kept in" in caplog.text


def test_just_the_items_that_one_refuses_wait_for_the_next_to_come_back(boxes: Any, tmp_path: Path) -> None:
    rest = request("b")
    direct = boxes(Answer(Told("accepted"), "1 item is too long", rest), RETRY)
    assert direct.post("logs", request("a", "b"), **PROTOBUF).outcome == "accepted"
    [line] = spooled(tmp_path / "spool").splitlines()
    assert otlp_json.proto_from_request("logs", json.loads(line)).SerializeToString() == rest
    assert not (tmp_path / "spool" / "rejected").exists()


def test_a_rest_that_is_refused_again_as_a_whole_stays_the_line_that_it_is(boxes: Any, tmp_path: Path) -> None:
    rest = request("b")
    direct = boxes(Answer(Told("accepted"), "1 item is too long", rest), RETRY)
    assert direct.post("logs", rest, **PROTOBUF).outcome == "retry"
    assert spooled(tmp_path / "spool") == ""


def test_a_rest_that_no_disk_has_room_for_is_tried_again_with_all_of_it(boxes: Any, tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file where the folder should be")
    direct = boxes(Answer(Told("accepted"), "1 item is too long", request("b")), RETRY)
    assert direct.post("logs", request("a", "b"), **PROTOBUF).outcome == "retry"


def test_a_signal_that_no_backend_has_a_place_for_is_not_kept_and_named_once(
    boxes: Any, caplog: pytest.LogCaptureFixture
) -> None:
    direct = boxes(ACCEPTED, ACCEPTED)
    for _ in range(2):
        answer = direct.post("metrics", b'{"resourceMetrics":[{"resource":{}}]}')
        assert (answer.outcome, answer.reason) == ("accepted", "no backend has a place for metrics")
    assert not Box.taken
    assert caplog.text.count("has a place for metrics") == 1
    assert direct.homeless() == ["metrics"]


def test_what_a_writer_raises_shows_no_secret(boxes: Any, caplog: pytest.LogCaptureFixture) -> None:
    answer = boxes(Answer(Told("raise"))).post("logs", request("a"), **PROTOBUF)
    assert (answer.outcome, answer.reason) == ("retry", "box: RuntimeError")
    assert "s3cret" not in caplog.text


def test_a_line_of_the_spool_reaches_a_writer_as_it_left_the_job(boxes: Any) -> None:
    line = otlp_json.logs_request(
        {"site": "fab1", "list": ["a", 1, 2.5, True]},
        [
            otlp_json.log_record(
                event_name="e", time_ns=2**60, severity="WARN", attributes={"n": -(2**40)}, trace_id=b"t" * 16, span_id=b"s" * 8
            )
        ],
        scope={"name": "x", "schema_url": "https://example.org/1"},
    )
    direct = boxes(ACCEPTED)
    assert direct.post("logs", json.dumps(line).encode()).outcome == "accepted"
    [(_, _, taken)] = Box.taken
    assert otlp_json.request_from_proto(otlp_json.proto_type("logs").FromString(taken)) == line
    assert direct.post("logs", b'{"resourceLogs": 7}').outcome == "rejected"
    assert (
        direct.post("logs", b'{"resourceLogs": [{"scopeLogs": [{"logRecords": [{"traceId": "xyz"}]}]}]}').outcome == "rejected"
    )


def test_the_spool_of_what_is_refused_is_its_own(boxes: Any, tmp_path: Path) -> None:
    Spool(tmp_path / "spool").append("logs", {"resourceLogs": []})
    assert boxes(REJECTED).post("logs", request("a"), **PROTOBUF).outcome == "rejected"
    assert not (tmp_path / "spool" / "rejected").exists(), "the caller keeps a whole request, and replay sets it aside"
