"""`wafer receiver` from outside: its ready line, its exit codes, its own telemetry."""

from __future__ import annotations

import json
import re
import socket
import time

import pytest

from tests.receiver.otlp import Grpc, HttpProtobuf, spans
from tests.receiver.process import DEADLINE_S, Receiver, run
from tests.servers import otlp_sink
from wafermonitor.receiver.transcode.protocol import Signal
from wafermonitor.semconv import attributes as names

pytestmark = pytest.mark.slow


async def test_it_says_where_it_listens_takes_spans_and_stops_in_order():
    receiver = Receiver()
    try:
        assert receiver.ready == {
            "ready": "receiver",
            "grpc": receiver.grpc_address,
            "http": receiver.http_address,
            "pid": receiver.pid,
            "engine": "memory",
            "lane": "python",
            "metrics": receiver.http_address,
        }
        async with Grpc(receiver.grpc_address, "") as client, HttpProtobuf("", receiver.http_address) as other:
            assert (await client.send(Signal.TRACES, client.encode(spans()))).ok
            assert (await other.send(Signal.TRACES, other.encode(spans()))).ok
    finally:
        began = time.monotonic()
        code = receiver.stop()
    assert code == 0
    assert time.monotonic() - began < 10
    assert "Traceback" not in receiver.log


def test_its_ready_line_for_people_has_the_real_ports():
    process = run("--grpc-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0")
    try:
        line = process.stdout.readline()
    finally:
        process.terminate()
        process.communicate(timeout=DEADLINE_S)
    assert "OTLP/gRPC on 127.0.0.1:" in line
    assert not re.search(r":0\b", line)
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (("--grpc-address", "nonsense"), 2, "WAFER_RECEIVER_GRPC_ADDRESS"),
        (("--max-request-bytes", "many"), 2, "max_request_bytes"),
        (("--no-such-flag",), 2, "no-such-flag"),
    ],
)
def test_a_wrong_setting_is_named_and_ends_it_with_2(flags, code, words):
    process = run(*flags)
    _, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == code
    assert words in errors
    assert "Traceback" not in errors


def test_a_taken_address_ends_it_with_1():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = run("--grpc-address", "127.0.0.1:0", "--http-address", f"127.0.0.1:{taken.getsockname()[1]}")
        _, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert "WAFER_RECEIVER_HTTP_ADDRESS" in errors
    assert "Traceback" not in errors


def test_a_store_that_does_not_answer_ends_it_with_1_and_without_its_address():
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    process = run(dsn=f"postgresql://wafer:hunter2@127.0.0.1:{port}/wafer")
    _, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert "hunter2" not in errors
    assert "Traceback" not in errors


async def test_its_own_spans_are_sent_when_there_is_an_endpoint():
    sink = otlp_sink.Server()
    try:
        receiver = Receiver(OTEL_EXPORTER_OTLP_ENDPOINT=sink.url)
        try:
            async with HttpProtobuf("", receiver.http_address) as client:
                assert (await client.send(Signal.TRACES, client.encode(spans(3)))).ok
        finally:
            receiver.stop()
        assert [span.name for span in sink.spans] == ["receiver.group"]
        assert sink.spans[0].resource[names.SERVICE_NAME] == "wafer-receiver"
    finally:
        sink.stop()


async def test_its_log_is_json_lines_when_nobody_watches():
    receiver = Receiver()
    receiver.stop()
    assert all(json.loads(line)["service"] == "wafer-receiver" for line in receiver.log.splitlines())
