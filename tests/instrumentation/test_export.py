"""The sender: how long a job may wait, what an endpoint that fails costs, and that it is asked again."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext

import wafermonitor.instrumentation as wafer
from tests.servers import otlp_sink
from wafermonitor.instrumentation import export, providers, usage
from wafermonitor.instrumentation.config import Config
from wafermonitor.instrumentation.endpoint import Endpoint
from wafermonitor.instrumentation.errors import ConfigRejected
from wafermonitor.instrumentation.export import Budget
from wafermonitor.instrumentation.heartbeat import Heartbeat
from wafermonitor.instrumentation.outbox import Outbox
from wafermonitor.instrumentation.spool import Request, Signal, Spool

Telemetry = Callable[..., providers.Telemetry]


def spooled(telemetry: providers.Telemetry, signal: str = "logs") -> str:
    return "".join(path.read_text() for path in telemetry.config.spool_dir.glob(f"{signal}/*.jsonl"))


NOBODY = "http://127.0.0.1:9"


class SlowSpool(Spool):
    """Writes once it is told to."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.entered = threading.Event()
        self.go = threading.Event()

    def append(self, signal: Signal, request: Request) -> None:
        self.entered.set()
        assert self.go.wait(30)
        super().append(signal, request)

    def text(self, signal: Signal) -> str:
        return "".join(path.read_text() for path in self.directory.glob(f"{signal}/*.jsonl"))


@pytest.fixture
def slow_spool(tmp_path: Path) -> Iterator[SlowSpool]:
    spool = SlowSpool(tmp_path / "slow")
    yield spool
    spool.go.set()


def ends_after_writing(end: Callable[[], object], spool: SlowSpool) -> bool:
    """Whether `end`, called while another thread writes to the spool, goes on until that is done."""
    assert spool.entered.wait(30)
    ending = threading.Thread(target=end)
    ending.start()
    ending.join(1)
    waits = ending.is_alive()
    spool.go.set()
    ending.join(30)
    return waits and not ending.is_alive()


def test_the_budget_is_shared_and_comes_back_only_while_the_endpoint_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    budget = Budget(0.3)
    assert budget.left_s(keep=0.5, refill=True) == pytest.approx(0.15)
    budget.charge(0.3)
    now += 10
    assert budget.left_s(refill=False) == pytest.approx(0.0)
    now += 10
    assert budget.left_s(refill=True) == pytest.approx(0.1)
    now += 1_000
    assert budget.left_s(refill=True) == pytest.approx(0.3)


def test_an_endpoint_that_comes_back_gets_what_was_spooled(
    telemetry: Telemetry, sink: otlp_sink.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_PROBE_FIRST_S", 0.05)
    sink.status = 503
    made = telemetry()
    with wafer.job("a"):
        pass
    assert spooled(made).count("wafer.job.end") == 1
    sink.status = 200
    sink.wait_for(lambda seen: len(seen.runs("a")) == 1)
    with wafer.job("b"):
        pass
    sink.wait_for(lambda seen: len(seen.runs("b")) == 1)
    assert len(sink.events("wafer.job.start", job="a")) == 1


def test_a_request_that_is_refused_for_good_is_kept_and_the_endpoint_is_still_asked(
    telemetry: Telemetry, sink: otlp_sink.Server
) -> None:
    made = telemetry()
    sink.status = 400
    with wafer.job("a"):
        pass
    assert "wafer.job.end" in spooled(made)
    sink.status = 200
    with wafer.job("b"):
        pass
    assert len(sink.runs("b")) == 1


def test_an_answer_after_the_budget_is_not_waited_for(telemetry: Telemetry, sink: otlp_sink.Server) -> None:
    sink.silent.set()
    made = telemetry(WAFER_INSTRUMENTATION_BLOCKING_S="0.2", OTEL_EXPORTER_OTLP_TIMEOUT="1")
    began_s = time.monotonic()
    with wafer.job("a"):
        pass
    assert time.monotonic() - began_s < 0.2 + 0.5, "0.5 s for a loaded machine"
    providers.close()
    assert "wafer.job.end" in spooled(made)
    assert spooled(made).count('"eventName":"wafer.job.start"') == 1


def test_what_comes_after_the_end_goes_to_the_spool(telemetry: Telemetry, sink: otlp_sink.Server) -> None:
    made = telemetry()
    providers.close()
    before_s = made.sender._budget.left_s(refill=False)
    with wafer.job("late"):
        pass
    assert '"eventName":"wafer.job.end"' in spooled(made)
    assert before_s - made.sender._budget.left_s(refill=False) < 1, "waited for a thread that has ended"


def a_span() -> ReadableSpan:
    return ReadableSpan("s", SpanContext(1, 1, is_remote=False), resource=Resource({}), start_time=1, end_time=2)


def test_the_end_of_a_process_waits_for_what_its_thread_is_writing_to_the_spool(
    telemetry: Telemetry, slow_spool: SlowSpool
) -> None:
    """The thread is cut off at the end; on a loaded machine it may have begun to write and no more."""
    sender = telemetry(OTEL_EXPORTER_OTLP_ENDPOINT=NOBODY).sender
    sender.spool = slow_spool
    sender.put("traces", a_span(), soon=True)
    assert ends_after_writing(sender.close, slow_spool)
    assert slow_spool.text("traces").count('"name":"s"') == 1


def test_the_thread_takes_nothing_more_once_the_process_ends(telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch) -> None:
    sender = telemetry(WAFER_MODE="file").sender
    monkeypatch.setattr(sender, "_awaken", lambda **_: None)
    sender.put("logs", object())

    class Last:
        """The lock, which the thread gets when the end has come."""

        def __enter__(self) -> None:
            sender._closed = True

        def __exit__(self, *_: object) -> None:
            pass

    with monkeypatch.context() as patched:
        patched.setattr(sender, "_lock", Last())
        sender._drain()
    assert len(sender._queues["logs"]) == 1
    sender._queues["logs"].clear()


def test_an_outbox_waits_for_what_its_thread_is_writing_to_the_spool(slow_spool: SlowSpool) -> None:
    outbox = Outbox(Endpoint.of(Config(endpoint=NOBODY, timeout_s=5), {}), slow_spool, budget_s=0.3)
    request: dict[str, Any] = {"resourceLogs": []}
    sending = threading.Thread(target=outbox.flush, args=([("logs", request)],))
    sending.start()
    assert ends_after_writing(sending.join, slow_spool)
    assert slow_spool.text("logs").count("resourceLogs") == 1


def test_a_full_queue_drops_and_says_so_once(
    telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(export, "QUEUE_ITEMS", 2)
    sender = telemetry(WAFER_MODE="file").sender
    monkeypatch.setattr(sender, "_awaken", lambda **_: None)
    for _ in range(5):
        sender.put("metrics", object())
    assert len(sender._queues["metrics"]) == 2
    assert len([record for record in caplog.records if "full" in record.getMessage()]) == 1
    sender._queues["metrics"].clear()


def test_tokens_and_headers_are_sent_and_bodies_can_be_compressed(telemetry: Telemetry, sink: otlp_sink.Server) -> None:
    telemetry(
        WAFER_TOKEN="t0ken",
        OTEL_EXPORTER_OTLP_HEADERS="x-fab=one",
        OTEL_EXPORTER_OTLP_COMPRESSION="gzip",
    )
    with wafer.job("a"):
        pass
    assert len(sink.runs("a")) == 1
    assert {"authorization": "Bearer t0ken", "x-fab": "one", "content-encoding": "gzip"}.items() <= sink.headers[0].items()


class Beaten:
    memory_max = 0
    shared = False

    def descends_from(self, other: object) -> bool:
        return other is not self


def test_a_heartbeat_names_the_oldest_run_and_stops_with_the_last() -> None:
    beats: list[tuple[Any, int]] = []
    twice = threading.Event()

    def beat(run: Beaten, sequence: int) -> None:
        beats.append((run, sequence))
        if len(beats) == 2:
            twice.set()

    heart: Heartbeat[Beaten] = Heartbeat(beat, 0.01)
    oldest, newest = Beaten(), Beaten()
    heart.open(1, oldest)
    heart.open(2, newest)
    assert twice.wait(10)
    assert beats[:2] == [(oldest, 1), (oldest, 2)]
    assert oldest.memory_max > 1_000_000
    assert heart.close(1) is oldest
    assert heart.oldest is newest
    assert heart.close(1) is None
    heart.close(2)
    assert heart.runs == []


def test_the_heartbeat_of_a_run_carries_its_progress_and_cost(telemetry: Telemetry, sink: otlp_sink.Server) -> None:
    telemetry(WAFER_INSTRUMENTATION_HEARTBEAT_S="0.05")
    with wafer.job("a") as job, job.subjob("b"):
        job.progress(1, 4)
        sink.wait_for(lambda seen: len(seen.events("wafer.job.heartbeat")) >= 2)
    beats = sink.events("wafer.job.heartbeat")
    assert {item.attributes["wafer.job.name"] for item in beats} == {"a"}
    assert [item.attributes["wafer.job.heartbeat.sequence"] for item in beats[:2]] == [1, 2]
    assert beats[1].attributes.items() >= {"wafer.job.heartbeat.interval": 0.05, "wafer.job.progress.ratio": 0.25}.items()
    assert {"wafer.job.cpu.time", "wafer.job.memory.max"} <= beats[0].attributes.keys()


def test_cpu_counts_reaped_children_and_memory_the_whole_tree() -> None:
    before_s = sum(usage.cpu_s())
    child = os.fork()
    if child == 0:
        while sum(usage.cpu_s()) < 0.05:
            pass
        os._exit(0)
    assert child in usage.descendants(os.getpid())
    alone = usage.memory_bytes()
    together = usage.tree_memory_bytes()
    os.waitpid(child, 0)
    assert sum(usage.cpu_s()) - before_s >= 0.05
    assert alone is not None
    assert together is not None
    assert together > alone
    assert usage.memory_bytes(2**22 + 1) is None


def test_settings_come_from_the_environment_and_opentelemetrys_win() -> None:
    environ = {
        "SIDECAR_URL": "http://old:1",
        "SITE_ID": "fab9",
        "WAFER_TOKEN": "t",
        "WAFER_INSTRUMENTATION_HEARTBEAT_S": "5",
        "WAFER_INSTRUMENTATION_LOGS": "no",
        "WAFER_SPOOL_DIR": "/var/tmp/x",
    }
    config = Config.load(environ)
    assert (config.endpoint, config.site_id, config.heartbeat_s, config.logs) == ("http://old:1", "fab9", 5.0, False)
    assert config.spool_dir == Path("/var/tmp/x")
    assert Config.load({**environ, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://new:2"}).endpoint == "http://new:2"
    assert Config.load({"OTEL_SDK_DISABLED": "true"}).mode == "off"


@pytest.mark.parametrize(
    ("name", "value"),
    [("WAFER_MODE", "sideways"), ("WAFER_INSTRUMENTATION_HEARTBEAT_S", "-1"), ("WAFER_INSTRUMENTATION_LOGS", "perhaps")],
)
def test_a_wrong_setting_is_named_and_a_job_takes_the_default(name: str, value: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ConfigRejected, match=name):
        Config.load({name: value})
    assert Config.load({name: value}, strict=False) == Config.load({})
    assert name in caplog.text


def test_every_option_is_listed_with_its_source_and_secrets_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAFER_TOKEN", "t0ken")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318")
    rows = {row.name: row for row in Config.options()}
    assert (rows["token"].value, rows["token"].source) == ("********", "environment")
    assert rows["endpoint"].environment == "WAFER_INSTRUMENTATION_ENDPOINT"
    assert rows["endpoint"].aliases == ("OTEL_EXPORTER_OTLP_ENDPOINT", "SIDECAR_URL")
    assert rows["heartbeat_s"].environment == "WAFER_INSTRUMENTATION_HEARTBEAT_S"
    assert rows["mode"].aliases == ()
    assert all(row.doc and row.component == "instrumentation" for row in rows.values())
