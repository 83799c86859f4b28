"""How many hours a queue holds, worked out from the Collector's own metrics page."""

import http.server
import threading

import pytest

from tests.servers.collector import free_ports
from wafermonitor.collector import queue
from wafermonitor.collector.errors import CollectorUnavailable
from wafermonitor.collector.queue import Reading

PAGE = """\
# HELP otelcol_exporter_queue_size Current size of the queue.
otelcol_exporter_queue_capacity{data_type="logs",exporter="otlp_grpc/managed"} 1e+09
otelcol_exporter_queue_capacity{data_type="traces",exporter="otlp_grpc/managed"} 1e+09
otelcol_exporter_queue_size{data_type="logs",exporter="otlp_grpc/managed"} 1e+08
otelcol_exporter_queue_size{data_type="traces",exporter="otlp_grpc/managed"} 5000
otelcol_exporter_enqueue_size_bytes_sum{exporter="otlp_grpc/managed"} 3.6e+06
otelcol_exporter_enqueue_size_bytes_count{exporter="otlp_grpc/managed"} 12
otelcol_exporter_enqueue_failed_log_records{exporter="otlp_grpc/managed"} 7
otelcol_exporter_enqueue_failed_spans{exporter="otlp_grpc/managed"} 1
otelcol_exporter_sent_log_records{exporter="file/jsonl"} 3
otelcol_process_uptime 6.9
"""


def test_the_page_gives_one_reading_per_exporter_with_a_queue():
    assert queue.parse(PAGE) == {"otlp_grpc/managed": Reading(entered=3.6e6, free=9e8, used=1e8 + 5000, refused=8.0)}


def test_the_hours_are_the_room_of_the_fullest_signal_at_the_present_rate():
    before = {"x": Reading(entered=0.0, free=7.2e9, used=0.0, refused=0.0)}
    after = {"x": Reading(entered=1e7, free=7.2e9, used=2e6, refused=0.0)}
    (report,) = queue.reports(before, after, elapsed_s=10.0)
    assert report.rate == 1e6
    assert report.hours == pytest.approx(2.0)
    assert str(report) == "the queue of x holds 2.0 h or more at 1.0 MB/s, 2.0 MB wait"


def test_an_idle_queue_has_no_hours():
    same = {"x": Reading(entered=5.0, free=100.0, used=0.0, refused=0.0)}
    (report,) = queue.reports(same, same, elapsed_s=10.0)
    assert report.hours is None
    assert str(report) == "the queue of x is idle, 0 B wait"


def test_a_full_queue_says_what_it_refused():
    before = {"x": Reading(entered=5.0, free=0.0, used=100.0, refused=2.0)}
    after = {"x": Reading(entered=5.0, free=0.0, used=100.0, refused=12.0)}
    (report,) = queue.reports(before, after, elapsed_s=10.0)
    assert str(report) == "the queue of x is full: 10 items were refused and wait at their senders"


def test_counters_that_began_anew_do_not_make_a_negative_rate():
    before = {"x": Reading(entered=1e9, free=100.0, used=0.0, refused=50.0)}
    after = {"x": Reading(entered=1000.0, free=100.0, used=0.0, refused=0.0)}
    (report,) = queue.reports(before, after, elapsed_s=10.0)
    assert report.rate == 100.0
    assert report.refused == 0.0


def test_no_page_is_unavailable():
    with pytest.raises(CollectorUnavailable, match="do not answer"):
        queue.read(free_ports(1)[0])


def test_the_page_is_read_over_http():
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(PAGE.encode())

        def log_message(self, *_):
            """Quiet."""

    with http.server.HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        assert "otlp_grpc/managed" in queue.read(server.server_address[1])
        thread.join()
