"""`wafer query` as a process, and its settings."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.query.test_client import free_port
from wafermonitor.instrumentation.errors import ConfigRejected
from wafermonitor.query.client import Client
from wafermonitor.query.config import Config, split_address

COMMAND = [sys.executable, "-c", "from wafermonitor.query.command import query; query()"]


def spawn(*flags, **environment):
    return subprocess.Popen(
        [*COMMAND, *flags],
        env={"PATH": os.environ["PATH"], "WAFER_STORAGE_DSN": "memory://"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_prints_where_it_answers_and_stops_in_order(number):
    process = spawn("--address", "127.0.0.1:0", "--ready-json")
    try:
        ready = json.loads(process.stdout.readline())
        assert ready["ready"] == "query"
        assert ready["engine"] == "memory"
        assert ready["pid"] == process.pid
        with Client(ready["url"]) as client:
            assert client.jobs().items == []
            stream = client.stream()
            assert next(stream).kind == "hello"
            begin_s = time.monotonic()
            process.send_signal(number)
            assert process.wait(10) == 0
            assert time.monotonic() - begin_s < 5, "an open stream does not hold up the stop"
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_the_ready_line_is_for_people_too():
    process = spawn(WAFER_QUERY_ADDRESS=f"127.0.0.1:{free_port()}")
    try:
        assert process.stdout.readline().startswith("wafer query answers at http://127.0.0.1:")
    finally:
        process.terminate()
        process.communicate(timeout=10)


@pytest.mark.slow
def test_a_wrong_setting_stops_the_start_with_field_value_and_fix():
    process = spawn("--address", "here")
    _, said = process.communicate(timeout=20)
    assert process.returncode == 2
    assert "query.address" in said
    assert "'here'" in said
    assert "127.0.0.1:18000" in said


@pytest.mark.slow
def test_a_taken_address_is_one_line_without_traceback():
    with_port = spawn("--address", "127.0.0.1:0", "--ready-json")
    try:
        url = json.loads(with_port.stdout.readline())["url"]
        second = spawn("--address", url.removeprefix("http://"))
        _, said = second.communicate(timeout=20)
        assert second.returncode == 1
        assert "--address" in said
        assert "Traceback" not in said
    finally:
        with_port.terminate()
        with_port.communicate(timeout=10)


@pytest.mark.parametrize(
    ("text", "pair"), [("127.0.0.1:0", ("127.0.0.1", 0)), ("[::1]:18000", ("::1", 18000)), ("h:1", ("h", 1))]
)
def test_addresses_are_split(text, pair):
    assert split_address(text) == pair


@pytest.mark.parametrize("text", ["", "h", ":1", "h:", "h:x", "h:70000", "h:-1"])
def test_other_addresses_are_refused(text):
    with pytest.raises(ConfigRejected, match="host:port"):
        Config.load(address=text)


@pytest.mark.slow
def test_the_client_needs_neither_the_store_nor_the_server():
    code = "import sys, wafermonitor.query.client; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"fastapi", "uvicorn", "asyncpg", "wafermonitor.storage", "wafermonitor.runs"}
