"""Where OTLP/HTTP JSON goes and what the answers mean."""

import email.utils
import http.server
import threading
import time

import pytest

from tests.servers import http_sink
from wafermonitor.instrumentation import endpoint as module
from wafermonitor.instrumentation.config import Config
from wafermonitor.instrumentation.endpoint import Endpoint, answer_of
from wafermonitor.instrumentation.outbox import Outbox
from wafermonitor.instrumentation.spool import Spool, size_bytes

LOGS = {"resourceLogs": [{"resource": {}, "scopeLogs": [{"scope": {}, "logRecords": [{"eventName": "e"}]}]}]}


def endpoint(url, **environ):
    return Endpoint.of(Config(endpoint=url, timeout_s=5, token=environ.pop("token", "")), environ)


def test_opentelemetrys_variables_say_where_and_how(sink):
    target = endpoint(
        "http://127.0.0.1:9",
        OTEL_EXPORTER_OTLP_LOGS_ENDPOINT=f"{sink.url}/v1/logs",
        OTEL_EXPORTER_OTLP_HEADERS="x-tenant=fab%201,Other=2",
        OTEL_EXPORTER_OTLP_LOGS_HEADERS="other=3",
        OTEL_EXPORTER_OTLP_COMPRESSION="gzip",
        token="secret",
    )
    assert target.urls["traces"] == "http://127.0.0.1:9/v1/traces"
    assert target.post("logs", b'{"resourceLogs":[]}').outcome == "accepted"
    (headers,) = sink.headers
    assert headers["authorization"] == "Bearer secret"
    assert (headers["x-tenant"], headers["other"], headers["content-encoding"]) == ("fab 1", "3", "gzip")
    assert target.post("traces", b"{}").outcome == "retry"
    target.close()


def test_an_endpoint_set_up_for_grpc_is_spoken_to_on_its_http_port():
    assert endpoint("http://host:4317", OTEL_EXPORTER_OTLP_PROTOCOL="grpc").urls["logs"] == "http://host:4318/v1/logs"
    assert endpoint("http://host:4317").urls["logs"] == "http://host:4317/v1/logs"


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, "accepted"),
        (400, "rejected"),
        (413, "rejected"),
        (401, "refused"),
        (404, "refused"),
        (429, "retry"),
        (408, "retry"),
    ]
    + [(code, "retry") for code in (500, 502, 503, 504, 301)],
)
def test_only_the_requests_own_fault_is_final(status, outcome):
    assert answer_of(status, None, b"", "http://x").outcome == outcome


def test_waiting_times_are_numbers_or_dates():
    assert answer_of(503, "7", b"", "u").retry_after_s == 7
    in_a_minute = answer_of(503, email.utils.formatdate(time.time() + 60, usegmt=True), b"", "u").retry_after_s
    assert 50 < in_a_minute <= 60
    assert answer_of(503, "soon", b"", "u").retry_after_s == 0


def test_what_was_taken_only_in_part_is_told():
    answer = answer_of(200, None, b'{"partialSuccess":{"rejectedSpans":"3","errorMessage":"too old"}}', "u")
    assert (answer.outcome, answer.reason) == ("accepted", "rejectedSpans 3: too old")
    assert answer_of(200, None, b'{"partialSuccess":{}}', "u").reason == ""


@pytest.mark.parametrize("url", ["", "gopher://x", "http://", "http://127.0.0.1:99999", "http://[::1", "http://host name:1"])
def test_an_address_that_is_none_is_an_answer_too(url):
    assert endpoint(url).post("logs", b"{}").outcome == "retry"


class Forgetful(http.server.BaseHTTPRequestHandler):
    """Answers as if it kept the connection, then closes it."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()
        self.close_connection = True

    def log_message(self, *_):
        pass


def test_a_kept_connection_that_was_closed_meanwhile_is_opened_anew():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Forgetful)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        target = endpoint(f"http://127.0.0.1:{server.server_address[1]}")
        assert [target.post("logs", b"{}").outcome for _ in range(3)] == ["accepted"] * 3
        target.close()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_an_outbox_waits_no_longer_than_its_budget_and_keeps_what_was_not_taken(sink, tmp_path):
    sink.silent.set()
    outbox = Outbox(endpoint(sink.url), Spool(tmp_path), budget_s=0.2)
    began = time.monotonic()
    for _ in range(5):
        outbox.flush([("logs", LOGS), ("logs", LOGS)])
    assert time.monotonic() - began < 1.0
    (path,) = (tmp_path / "logs").iterdir()
    assert path.read_bytes().count(b"\n") == 10


def test_an_outbox_sends_what_it_is_given_and_spools_nothing(sink, tmp_path):
    outbox = Outbox(endpoint(sink.url), Spool(tmp_path), budget_s=10)
    outbox.flush([("logs", LOGS), ("logs", LOGS)])
    assert [item.name for item in sink.logs] == ["e", "e"]
    assert outbox.answers
    assert size_bytes(tmp_path) == 0


@pytest.mark.parametrize(("status", "posts"), [(503, 3), (400, 1), (401, 1), (200, 1)])
def test_a_request_is_tried_again_as_often_as_is_set_and_only_where_that_helps(monkeypatch, status, posts):
    monkeypatch.setattr(module, "_PAUSE_S", (0.001, 0.002))
    with http_sink.start() as sink:
        sink.status = status
        Endpoint.of(Config(endpoint=sink.url, timeout_s=10, retries=2), {}).post("logs", b"{}")
    assert len(sink.requests) == posts
