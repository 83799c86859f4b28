"""The doctor names the broken hop, its cause and the next step, for each fault that is seeded."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer

import pytest
import uvicorn

from wafermonitor.deploy import doctor
from wafermonitor.instrumentation.config import Config as JobConfig
from wafermonitor.query.app import create_app
from wafermonitor.query.config import Config as QueryConfig
from wafermonitor.runs.alerts import Alert, Severity, Subject
from wafermonitor.storage.config import Config as StorageConfig
from wafermonitor.storage.connect import connect
from wafermonitor.storage.protocol import Storage
from wafermonitor.storage.watch import Outcome

METRICS = """# HELP otelcol_exporter_queue_size Current size
otelcol_exporter_queue_capacity{data_type="logs",exporter="otlp_grpc/managed"} 1e+09
otelcol_exporter_queue_size{data_type="logs",exporter="otlp_grpc/managed"} %d
otelcol_exporter_send_failed_spans_total{error_type="Unauthenticated",exporter="otlp_grpc/managed"} %d
otelcol_exporter_enqueue_failed_log_records_total{exporter="otlp_grpc/managed"} %d
"""


@contextmanager
def answering(status: int = 200, body: str = "{}") -> Iterator[str]:
    """A server that gives every request one answer; yields its `host:port`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_GET

        def log_message(self, *arguments: object) -> None:
            """Tests need no access log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def nobody(unused_tcp_port: int) -> str:
    """An address where nothing listens."""
    return f"127.0.0.1:{unused_tcp_port}"


def sites(*feeds: dict, server_time: datetime | None = None) -> str:
    items = [{"site": "f1", "feeds": list(feeds), "open_runs": {}}]
    return json.dumps({"items": items, "server_time": (server_time or datetime.now(UTC)).isoformat()})


def test_all_well():
    with (
        answering(body=METRICS % (0, 0, 0)) as metrics,
        answering(body=sites({"feed": "h", "watermark": "x", "behind": False})) as api,
    ):
        findings = [
            doctor.check_python(),
            doctor.check_sdk("sidecar", f"http://{api}", None),
            doctor.check_collector(api),
            doctor.check_queue(metrics),
            doctor.check_receiver(api),
            doctor.check_api(api),
            doctor.check_clock(api),
            doctor.check_feeds(api),
            doctor.check_screens(api),
        ]
    assert [(finding.hop, finding.status, finding.cause) for finding in findings if finding.status != "ok"] == []
    assert doctor.report(findings)["ok"]


@pytest.mark.parametrize(
    ("check", "hop"),
    [
        (lambda address: doctor.check_sdk("sidecar", f"http://{address}", None), "sdk"),
        (doctor.check_collector, "collector"),
        (doctor.check_receiver, "receiver"),
        (doctor.check_store, "store"),
        (doctor.check_api, "api"),
        (doctor.check_screens, "ui"),
    ],
)
def test_a_service_that_is_away_is_named_with_a_next_step(check, hop, nobody):
    finding = check(nobody)
    assert (finding.hop, finding.status) == (hop, "fail")
    assert finding.cause
    assert "wafer" in finding.next
    assert not doctor.report([finding])["ok"]


def test_a_wrong_token_is_named_and_never_shown():
    with answering(401) as address:
        finding = doctor.check_sdk("sidecar", f"http://{address}", "s3cret")
    assert (finding.status, finding.next) == ("fail", "set WAFER_TOKEN")
    assert "s3cret" not in repr(finding)


def test_something_else_on_the_endpoint_is_named():
    with answering(404) as address:
        finding = doctor.check_sdk("sidecar", f"http://{address}", None)
    assert (finding.status, finding.cause) == ("fail", "it is not an OTLP/HTTP endpoint")


@pytest.mark.parametrize(("mode", "words"), [("file", "file spool"), ("off", "nothing")])
def test_a_job_that_sends_nothing_is_said_without_blaming_the_endpoint(mode, words, nobody):
    finding = doctor.check_sdk(mode, f"http://{nobody}", None)
    assert (finding.status, finding.cause) == ("warn", f"the mode is {mode}")
    assert words in finding.found


def test_direct_mode_names_the_receiver(nobody):
    assert "receiver" in doctor.check_sdk("direct", f"http://{nobody}", None).next


def listed(tmp_path: Path, *entries: dict[str, str]) -> JobConfig:
    path = tmp_path / "sdk.json"
    path.write_text(json.dumps({"mode": "direct", "direct_backends": entries}))
    return JobConfig.load({"WAFER_SDK_CONFIG": str(path), "WAFER_SPOOL_DIR": str(tmp_path / "spool")})


def test_direct_backends_are_named_one_by_one(tmp_path, nobody):
    job = listed(tmp_path, {"type": "webhook", "url": f"http://{nobody}/"}, {"type": "files", "dir": str(tmp_path)})
    away, there = doctor.check_backends(job)
    assert (away.status, away.found) == ("warn", "webhook of direct_backends takes nothing")
    assert "does not answer" in away.cause
    assert "sdk.json: direct_backends[0]" in away.next
    assert (there.status, there.found) == ("ok", "files of direct_backends answers")


def test_a_list_of_which_none_answers_fails_and_says_where_jobs_write(tmp_path, nobody):
    *_, last = doctor.check_backends(listed(tmp_path, {"type": "webhook", "url": f"http://{nobody}/"}))
    assert (last.status, last.found) == ("fail", "none of direct_backends answers")
    assert "file spool" in last.next


@pytest.fixture
def babble() -> Iterator[str]:
    """A port where something else than a web server answers."""

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            self.request.recv(4096)
            self.wfile.write(b"\x00\x00\x12\x04 no HTTP\r\n\r\n")

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


HTTP_CHECKS = [
    doctor.check_collector,
    doctor.check_queue,
    doctor.check_receiver,
    doctor.check_store,
    doctor.check_api,
    doctor.check_clock,
    doctor.check_feeds,
    doctor.check_alerting,
    doctor.check_screens,
]


@pytest.mark.parametrize("check", HTTP_CHECKS)
def test_another_protocol_on_a_port_is_a_finding(check, babble):
    assert check(babble).status != "ok"


@pytest.mark.parametrize("check", [doctor.check_store, doctor.check_clock, doctor.check_feeds])
def test_an_answer_of_another_shape_is_a_finding(check):
    with answering(body="[1]") as address:
        assert check(address).status != "ok"


PART = """
import importlib.abc, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent}:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Absent())
from wafermonitor.instrumentation.cli import main
sys.exit(main(["doctor", "--json"]))
"""


@pytest.mark.slow
def test_it_needs_no_more_than_one_services_extra(tmp_path, unused_tcp_port_factory):
    absent = ["asyncpg", "bokeh", "fastapi", "grpc", "httpx", "msgspec", "numpy", "panel", "pandas", "starlette", "uvicorn"]
    addresses = {
        name: f"127.0.0.1:{unused_tcp_port_factory()}"
        for name in ("WAFER_RECEIVER_HTTP_ADDRESS", "WAFER_QUERY_ADDRESS", "WAFER_UI_ADDRESS", "WAFER_HEALTH_ENDPOINT")
    }
    settings = {"WAFER_SPOOL_DIR": str(tmp_path), "SIDECAR_URL": f"http://127.0.0.1:{unused_tcp_port_factory()}", **addresses}
    command = [sys.executable, "-c", PART.replace("{absent}", repr(set(absent)))]
    done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done.stderr
    checks = json.loads(done.stdout)["checks"]
    assert {check["hop"] for check in checks if check["status"] == "fail"} == {
        "sdk",
        "collector",
        "receiver",
        "store",
        "api",
        "ui",
    }


@asynccontextmanager
async def serving(store: Storage, port: int) -> AsyncIterator[str]:
    """The real read API on `store`; its address."""
    server = uvicorn.Server(uvicorn.Config(create_app(store, QueryConfig()), port=port, log_config=None, lifespan="off"))
    running = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(20):
            while not server.started:
                await asyncio.sleep(0.01)
        yield f"127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await running
        await store.close()


async def test_the_store_is_known_by_what_the_read_api_really_answers(unused_tcp_port):
    store = await connect(StorageConfig(dsn="memory://"))
    async with serving(store, unused_tcp_port) as address:
        finding = await asyncio.to_thread(doctor.check_store, address)
    assert (finding.status, finding.found.split()[0]) == ("ok", "memory")


async def test_whether_anybody_evaluates_is_told_with_what_is_critical(unused_tcp_port):
    store = await connect(StorageConfig(dsn="memory://"))
    async with serving(store, unused_tcp_port) as address:
        never = await asyncio.to_thread(doctor.check_alerting, address)
        async with store.watch.lead() as lead:
            await lead.store(Outcome())
        calm = await asyncio.to_thread(doctor.check_alerting, address)
        async with store.watch.lead() as lead:
            now_ns = lead.now_ns
            alert = Alert(
                "a" * 32, "f", "missed", Severity.CRITICAL, Subject("f1"), now_ns, now_ns, now_ns, "it did not come", "{}"
            )
            await lead.store(Outcome(alerts=[alert]))
        loud = await asyncio.to_thread(doctor.check_alerting, address)
    assert (never.status, never.found, never.next) == ("fail", "last evaluated never", "wafer alerting run, or wafer up")
    assert (calm.status, calm.found.rpartition(", ")[2]) == ("ok", "0 open alerts")
    assert (loud.status, loud.found.partition(", ")[2]) == ("warn", "1 open alerts, 1 critical: it did not come")


def test_a_receiver_without_its_store_is_not_ready():
    with answering(503) as address:
        finding = doctor.check_receiver(address)
    assert (finding.status, finding.cause) == ("fail", "it cannot reach its store")


@pytest.mark.parametrize(
    ("waiting", "dropped", "refused", "status", "words"),
    [
        (0, 0, 0, "ok", "empty, nothing dropped"),
        (4096, 0, 0, "warn", "4.1 kB wait"),
        (4096, 0, 5, "warn", "5 items found the queue full"),
        (0, 7, 0, "fail", "otlp_grpc/managed dropped 7 records"),
    ],
)
def test_the_collectors_queue_tells_of_delay_and_of_loss(waiting, dropped, refused, status, words):
    with answering(body=METRICS % (waiting, dropped, refused)) as address:
        finding = doctor.check_queue(address)
    assert (finding.status, finding.found) == (status, words)
    assert ("WAFER_TOKEN" in finding.next) == bool(dropped)


def test_a_filled_spool_is_named_with_its_remedy(tmp_path: Path):
    assert doctor.check_spool(tmp_path).status == "ok"
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "h-1-2.jsonl").write_text("{}\n")
    finding = doctor.check_spool(tmp_path)
    assert (finding.status, finding.next) == ("warn", f"wafer replay {tmp_path}")


def test_a_wrong_clock_is_named():
    with answering(body=sites(server_time=datetime.now(UTC) - timedelta(hours=2))) as address:
        finding = doctor.check_clock(address)
    assert (finding.status, finding.next) == ("warn", "check NTP on both hosts")


def test_a_feed_that_is_behind_or_never_beat_is_named():
    with answering(body=sites({"feed": "host-9", "watermark": "x", "behind": True})) as address:
        assert "host-9 of f1" in doctor.check_feeds(address).found
    with answering(body=sites()) as address:
        assert doctor.check_feeds(address).cause == "a cut link would look like silent jobs"


def test_a_wrong_setting_is_named(monkeypatch):
    monkeypatch.setenv("WAFER_QUERY_DEADLINE_S", "soon")
    findings = list(doctor.check_settings())
    assert any(finding.status == "fail" and "soon" in finding.found for finding in findings), findings


def test_disk_is_judged_where_the_data_will_be(tmp_path: Path):
    finding = doctor.check_disk(tmp_path / "not" / "yet")
    assert finding.hop == "disk"
    assert str(tmp_path) in finding.found


def test_a_run_that_does_not_arrive_is_said(nobody):
    assert doctor.probe(nobody, lambda: "ab-cd", wait_s=0.3).status == "fail"
