"""What the Collector's own metrics page says of its exporters."""

import pytest

from tests.servers.metrics_page import shown
from wafermonitor.instrumentation import onward
from wafermonitor.instrumentation.errors import InstrumentationUnavailable
from wafermonitor.instrumentation.onward import Queue

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
otelcol_exporter_sent_log_records{exporter="otlp_grpc/managed",server_address="127.0.0.1",server_port="24317"} 40
otelcol_exporter_sent_spans_total{exporter="otlp_grpc/managed",server_address="127.0.0.1",server_port="24317"} 2
otelcol_exporter_send_failed_log_records{error_permanent="true",error_type="Unauthenticated",exporter="otlp_grpc/managed"} 8
otelcol_exporter_send_failed_spans{error_permanent="true",error_type="Internal",exporter="otlp_grpc/managed"} 0
otelcol_exporter_send_failed_spans{error_permanent="false",error_type="_OTHER",exporter="file/jsonl"} 160
otelcol_process_uptime 6.9
"""


def test_the_page_gives_queues_what_was_sent_and_what_was_dropped():
    page = onward.parse(PAGE)
    assert page.queues == {"otlp_grpc/managed": Queue(entered=3.6e6, free=9e8, used=1e8 + 5000, refused=8.0)}
    assert page.sent == {"file/jsonl": 3.0, "otlp_grpc/managed": 42.0}
    assert page.dropped == {"otlp_grpc/managed": {"Unauthenticated": 8.0}}


def test_what_goes_back_to_a_spool_is_not_lost():
    """file/jsonl stands behind one: it has no queue, and its failures are tried again."""
    assert "file/jsonl" not in onward.parse(PAGE).dropped


def test_the_page_is_read_over_http():
    with shown(PAGE) as port:
        assert onward.read(port) == onward.parse(PAGE)


def test_no_page_is_unavailable():
    with shown(PAGE) as port:
        pass
    with pytest.raises(InstrumentationUnavailable, match="do not answer"):
        onward.read(port)


def test_another_programs_page_is_not_taken_for_a_collectors():
    with shown("python_info 1\n") as port, pytest.raises(InstrumentationUnavailable, match="set WAFER_METRICS_PORT"):
        onward.read(port)


@pytest.mark.parametrize(
    ("kind", "words"), [("Unauthenticated", "WAFER_TOKEN"), ("403", "WAFER_TOKEN"), ("Internal", "own message")]
)
def test_each_kind_of_loss_has_a_remedy(kind, words):
    assert words in onward.remedy(kind)
