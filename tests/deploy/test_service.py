"""A service is a child process: it is waited for, watched, started again, and ended."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from wafermonitor.deploy import service as services
from wafermonitor.deploy.addresses import free_addresses, is_taken
from wafermonitor.deploy.config import Config
from wafermonitor.deploy.errors import DeployRejected, DeployUnavailable
from wafermonitor.deploy.service import Plan, Service
from wafermonitor.deploy.stack import Stack, keeps_alerts

pytestmark = pytest.mark.slow

CONFIG = Config(start_s=20, stop_s=1, restart_max_s=0.1)
READY = "import signal, sys, time; print('{\"ready\": true}', flush=True); "


@pytest.fixture(autouse=True)
def plain_python(monkeypatch):
    """A service's command here is Python itself, so that each test can say what the child does."""
    monkeypatch.setattr(services, "WAFER", (sys.executable, "-c"))


def service(program: str) -> Service:
    return Service(Plan("child", (program,)), CONFIG, show=lambda name, line: None)


async def until(condition) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)


async def test_it_is_ready_when_it_says_so_and_ends_when_asked():
    child = service(READY + "time.sleep(60)")
    await child.start()
    assert child.announced == {"ready": True}
    pid = child.pid
    assert pid is not None
    await child.stop()
    assert child.pid is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_one_that_ends_while_starting_is_reported_with_its_last_lines():
    child = service("import sys; print('port 1 is taken', file=sys.stderr); sys.exit(3)")
    with pytest.raises(DeployUnavailable, match=r"(?s)child ended while starting.*port 1 is taken"):
        await child.start()
    await child.stop()


async def test_an_answer_of_another_program_is_not_taken_for_a_service():
    class Yes(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Tests need no access log."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Yes) as other:
        threading.Thread(target=other.serve_forever, args=(0.01,)).start()
        url = f"http://127.0.0.1:{other.server_port}/"
        addresses = replace(free_addresses(), ui=f"127.0.0.1:{other.server_port}")
        try:
            assert services.answers(url)
            with pytest.raises(DeployRejected, match=rf"127\.0\.0\.1:{other.server_port} \(set WAFER_UI_ADDRESS\)"):
                async with Stack(addresses, CONFIG, show=lambda name, line: None):
                    pytest.fail("started beside another program")
        finally:
            other.shutdown()
    assert not is_taken(addresses.ui)


STAND_IN = """
import http.server, json, os, sys, threading
kind, taken, folder = sys.argv[1], os.environ.get("WAFER_STORAGE_DSN"), os.environ["STAND_IN"]
if kind == "storage":
    if taken:
        sys.exit("a server of one's own is named: nothing to serve")
    open(folder, "w").write("postgresql://here")
    print(json.dumps({"ready": "storage", "dsn_file": folder}), flush=True)
    threading.Event().wait()
if kind in ("maintain", "alerting"):
    print(json.dumps({"ready": kind}), flush=True)
    threading.Event().wait()
class Yes(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
name = {"receiver": "RECEIVER_HTTP", "query": "QUERY", "ui": "UI"}[kind]
host, port = os.environ[f"WAFER_{name}_ADDRESS"].split(":")
http.server.HTTPServer((host, int(port)), Yes).serve_forever()
"""


async def test_a_store_that_dies_comes_back(monkeypatch, tmp_path):
    monkeypatch.setattr(services, "WAFER", (sys.executable, "-c", STAND_IN))
    for name in ("WAFER_STORAGE_DSN", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    environment = {"STAND_IN": str(tmp_path / "dsn")}
    async with Stack(free_addresses(), CONFIG, environment=environment, show=lambda name, line: None) as stack:
        store = stack.service("storage")
        first = store.pid
        assert first is not None
        store.announced = {}
        os.kill(first, signal.SIGKILL)
        await until(lambda: store.announced)
        assert store.pid not in (None, first)


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({}, True),
        ({"WAFER_STORAGE_DSN": "postgresql://here"}, True),
        ({"WAFER_STORAGE_DSN": "clickhouse://here"}, False),
        ({"WAFER_STORAGE_DSN": "clickhouse://here", "WAFER_STORAGE_ALERTING_DSN": "postgresql://here"}, True),
    ],
)
def test_it_is_evaluated_where_alerts_can_be_kept(settings, kept, monkeypatch):
    for name in ("WAFER_STORAGE_DSN", "DATABASE_URL", "WAFER_ALERTING_DSN"):
        monkeypatch.delenv(name, raising=False)
    assert keeps_alerts(settings) is kept


async def test_one_that_dies_is_started_again():
    child = service(READY + "time.sleep(60)")
    await child.start()
    first = child.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await until(lambda: child.restarts == 1 and child.pid not in (None, first))
    await child.stop()


async def test_one_that_does_not_end_is_killed():
    child = service("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + READY + "time.sleep(60)")
    await child.start()
    pid = child.pid
    await child.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid or 0, 0)


async def test_a_log_line_in_json_is_not_taken_for_the_ready_line():
    child = service('print(\'{"level": "INFO"}\', flush=True); ' + READY + "time.sleep(60)")
    await child.start()
    assert child.announced == {"ready": True}
    await child.stop()
