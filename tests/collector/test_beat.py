"""A beat is a valid OTLP log record that the receiver takes for a sign of its feed."""

import http.server
import json
import os
import threading
import time

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from tests.servers.collector import free_ports, until
from wafermonitor.collector import beat
from wafermonitor.collector.config import Config
from wafermonitor.collector.errors import CollectorRejected, CollectorUnavailable
from wafermonitor.instrumentation.config import Config as Instrumentation
from wafermonitor.instrumentation.endpoint import Endpoint
from wafermonitor.instrumentation.replay import Replay
from wafermonitor.instrumentation.spool import host_name
from wafermonitor.runs import lifecycle

CONFIG = Config.load({"WAFER_SITE_ID": "fab1", "WAFER_FEED_ID": "tester-07"})


class Answer:
    """An HTTP server on loopback that answers one request with a status and keeps what it got."""

    def __init__(self, status):
        self.got = {}
        got = self.got

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                length = int(self.headers["Content-Length"])
                got.update(path=self.path, type=self.headers["Content-Type"], body=json.loads(self.rfile.read(length)))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                """Quiet."""

        self.server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.handle_request)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.thread.join()
        self.server.server_close()

    @property
    def config(self):
        return Config.load({"WAFER_OTLP_HTTP": f"127.0.0.1:{self.server.server_address[1]}"})


def test_a_beat_is_otlp_and_moves_the_watermark_of_its_feed():
    message = json_format.ParseDict(beat.request(CONFIG, 1_700_000_000_000_000_123), ExportLogsServiceRequest())
    (one,) = message.resource_logs
    resource = {pair.key: pair.value.string_value for pair in one.resource.attributes}
    (record,) = one.scope_logs[0].log_records
    origin = lifecycle.origin_of(resource)
    found = lifecycle.feed_beat(origin, record.event_name, record.time_unix_nano, received_ns=1_700_000_000_500_000_123)
    assert found is not None
    assert (found.site, found.feed) == ("fab1", "tester-07")
    assert found.beat_ns == 1_700_000_000_000_000_123
    assert found.skew_ns == 500_000_000


def test_a_beat_goes_to_the_logs_path():
    with Answer(200) as answer:
        beat.send(answer.config, 1)
    assert answer.got["path"] == "/v1/logs"
    assert answer.got["type"] == "application/json"
    (record,) = answer.got["body"]["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
    assert record["eventName"] == "wafer.feed.beat"


@pytest.mark.parametrize("status", [429, 503])
def test_a_full_collector_is_unavailable(status):
    with Answer(status) as answer, pytest.raises(CollectorUnavailable, match=str(status)):
        beat.send(answer.config, 1)


def test_another_program_on_the_port_is_named():
    with Answer(404) as answer, pytest.raises(CollectorRejected, match="is it a Collector's OTLP/HTTP port"):
        beat.send(answer.config, 1)


def test_nobody_there_is_unavailable():
    with pytest.raises(CollectorUnavailable, match="does not answer"):
        beat.send(Config.load({"WAFER_OTLP_HTTP": f"127.0.0.1:{free_ports(1)[0]}"}), 1)


def spooled(folder, text):
    """A spool with one file of log records, as a job leaves it that still runs."""
    path = folder / "logs" / f"{host_name()}-{os.getpid()}-{time.time_ns()}.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_a_moment_is_passed_when_what_waited_then_is_sent_whatever_came_later(tmp_path):
    path = spooled(tmp_path, '{"resourceLogs": []}\n')
    config = Config.load({"WAFER_SPOOL_DIR": str(tmp_path)})
    mark = beat.Mark.now(config)
    assert not mark.is_passed(config)
    with Answer(200) as answer:
        target = Endpoint.of(Instrumentation(endpoint=f"http://{answer.config.otlp_http}"), {})
        with Replay(tmp_path, target) as replay:
            replay.run()
    with path.open("a") as file:
        file.write('{"resourceLogs": []}\n')
    assert mark.is_passed(config)
    assert not beat.Mark.now(config).is_passed(config)


def test_a_spool_that_goes_another_way_holds_nothing_back(tmp_path):
    spooled(tmp_path, '{"resourceLogs": []}\n')
    config = Config.load({"WAFER_SPOOL_DIR": str(tmp_path), "WAFER_COLLECTOR_REPLAY": "false"})
    assert beat.Mark.now(config).is_passed(config)


def test_a_beat_that_waits_for_the_spool_ends_when_it_is_told_to(tmp_path):
    spooled(tmp_path, '{"resourceLogs": []}\n')
    stop, told = threading.Event(), []
    thread = threading.Thread(target=beat.keep, args=(Config.load({"WAFER_SPOOL_DIR": str(tmp_path)}), stop, told.append))
    thread.start()
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
    assert told == []


def test_a_spool_that_cannot_be_read_is_named_once_and_ends_nothing(tmp_path):
    (tmp_path / "logs").write_text("no folder")
    stop, told = threading.Event(), []
    config = Config.load({"WAFER_SPOOL_DIR": str(tmp_path), "WAFER_COLLECTOR_BEAT_S": "0.01"})
    thread = threading.Thread(target=beat.keep, args=(config, stop, told.append))
    thread.start()
    until(lambda: told, "word of it")
    stop.set()
    thread.join(10)
    assert told == [f"no beat: the spool {tmp_path} cannot be read: Not a directory"]


def test_each_outage_is_told_once(tmp_path):
    statuses, stop, told = [503, 503, 200, 503, 503], threading.Event(), []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(statuses.pop(0))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            """Quiet."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        port = server.server_address[1]
        environ = {"WAFER_OTLP_HTTP": f"127.0.0.1:{port}", "WAFER_SPOOL_DIR": str(tmp_path), "WAFER_COLLECTOR_BEAT_S": "0.01"}
        thread = threading.Thread(target=beat.keep, args=(Config.load(environ), stop, told.append))
        thread.start()
        while statuses:
            server.handle_request()
    until(lambda: len(told) >= 2, "word of both")
    stop.set()
    thread.join(10)
    assert [text for text in told if "503" in text] == ["no beat: the Collector refuses (503); its queue or memory is full"] * 2
