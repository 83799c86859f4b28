"""What writers to SQS, CloudWatch and X-Ray make of a request, and what they make of the answers. No server is asked."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from tests.receiver.otlp import GOOD, logs, metrics, spans
from wafermonitor.receiver.transcode.protocol import Signal as Wire
from wafermonitor.storage.errors import StorageRejected, StorageUnavailable
from wafermonitor.storage.writers import aws, cloudwatch, sqs, xray
from wafermonitor.storage.writers.items import Span, count, items
from wafermonitor.storage.writers.protocol import SIGNALS, Fate, Outcome

AWAY = EndpointConnectionError(endpoint_url="http://key:secret@far")
DAY_NS = 86_400 * 10**9


def answered(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "secret"}}, "Put")


class Clients:
    """In the place of boto3's: keeps what it is asked, and answers, or raises, what is next."""

    def __init__(self, *answers: Any) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self._answers = list(answers)

    def of(self, _service: str) -> Clients:
        return self

    def close(self) -> None:
        """Nothing is open."""

    def __getattr__(self, name: str) -> Any:
        def ask(**asked: Any) -> Any:
            self.asked.append((name, asked))
            answer = self._answers.pop(0) if self._answers else {}
            if isinstance(answer, Exception):
                raise answer
            return answer

        return ask


def put_in(writer: Any, *answers: Any) -> Clients:
    """Give the writer such clients."""
    clients = Clients(*answers)
    writer._clients = clients
    return clients


def writer_of(signal: str) -> Any:
    if signal == "traces":
        return xray.Writer(xray.Config())
    return cloudwatch.Writer(cloudwatch.Config())


@pytest.mark.parametrize("signal", SIGNALS)
def test_what_is_no_request_is_rejected_and_the_rest_is_written(signal):
    for writer in (writer_of(signal), sqs.Writer(sqs.Config(queue_url="q"))):
        put_in(writer)
        outcomes = writer.write(signal, [b"\xff\xff", GOOD[Wire(signal)](2).SerializeToString()])
        assert [one.fate for one in outcomes] == [Fate.REJECTED, Fate.ACCEPTED]


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize(
    "error", [AWAY, answered("ThrottlingException"), answered("AccessDeniedException"), answered("InternalFailure")]
)
def test_what_may_pass_is_tried_again_and_names_no_secret(signal, error):
    for writer in (writer_of(signal), sqs.Writer(sqs.Config(queue_url="q"))):
        put_in(writer, error)
        (outcome,) = writer.write(signal, [GOOD[Wire(signal)](2).SerializeToString()])
        assert outcome.fate is Fate.RETRY
        assert "secret" not in outcome.reason


def test_a_queue_must_be_named():
    with pytest.raises(StorageRejected, match="WAFER_SQS_QUEUE_URL"):
        sqs.Writer(sqs.Config())


def test_a_large_request_becomes_messages_that_fit_with_every_item_once():
    writer = sqs.Writer(sqs.Config(queue_url="q", message_bytes=4_000.0))
    clients = put_in(writer)
    (outcome,) = writer.write("logs", [logs(40).SerializeToString()])
    assert outcome.fate is Fate.ACCEPTED
    bodies = [entry["MessageBody"] for _, asked in clients.asked for entry in asked["Entries"]]
    assert all(len(body) < 4_000 for body in bodies)
    assert all(sum(len(one["MessageBody"]) for one in asked["Entries"]) < 4_000 for _, asked in clients.asked)
    told = [
        one["body"]["stringValue"]
        for body in bodies
        for one in json.loads(body)["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
    ]
    assert sorted(told) == sorted(f"line {number}" for number in range(40))


def test_an_item_larger_than_a_message_remains_and_the_others_are_sent():
    request = logs(3)
    request.resource_logs[0].scope_logs[0].log_records[1].body.string_value = "x" * 5_000
    writer = sqs.Writer(sqs.Config(queue_url="q", message_bytes=4_000.0))
    put_in(writer)
    (outcome,) = writer.write("logs", [request.SerializeToString()])
    assert (outcome.fate, outcome.rejected) == (Fate.ACCEPTED, 1)
    assert count("logs", outcome.remains) == 1


def test_a_message_of_a_fifo_queue_is_named_after_its_content():
    writer = sqs.Writer(sqs.Config(queue_url="http://far/wafer.fifo"))
    clients = put_in(writer)
    body = spans(2).SerializeToString()
    writer.write("traces", [body])
    writer.write("traces", [body])
    first, again = (asked["Entries"][0]["MessageDeduplicationId"] for _, asked in clients.asked)
    assert first == again


@pytest.mark.parametrize(
    ("code", "fate", "rejected"),
    [("InternalError", Fate.RETRY, 0), ("InvalidMessageContents", Fate.ACCEPTED, 2), ("InvalidParameterValue", Fate.RETRY, 0)],
)
def test_a_message_that_failed_alone(code, fate, rejected):
    writer = sqs.Writer(sqs.Config(queue_url="q"))
    put_in(writer, {"Failed": [{"Id": "0", "Code": code, "SenderFault": True}]})
    (outcome,) = writer.write("logs", [logs(2).SerializeToString()])
    assert (outcome.fate, outcome.rejected) == (fate, rejected)


def test_events_go_out_in_order_of_time():
    request = logs(3)
    records = request.resource_logs[0].scope_logs[0].log_records
    records[0].time_unix_nano += 10**9
    writer = cloudwatch.Writer(cloudwatch.Config())
    clients = put_in(writer)
    writer.write("logs", [request.SerializeToString()])
    ((_, asked),) = clients.asked
    times = [one["timestamp"] for one in asked["logEvents"]]
    assert times == sorted(times)
    assert asked["logStreamName"] == "f1"


def test_what_cloudwatch_takes_no_more_is_refused_alone():
    request = logs(3)
    request.resource_logs[0].scope_logs[0].log_records[1].time_unix_nano = time.time_ns() - 15 * DAY_NS
    request.resource_logs[0].scope_logs[0].log_records[2].time_unix_nano = time.time_ns() + DAY_NS
    writer = cloudwatch.Writer(cloudwatch.Config())
    put_in(writer)
    (outcome,) = writer.write("logs", [request.SerializeToString()])
    assert (outcome.fate, outcome.rejected) == (Fate.ACCEPTED, 2)
    assert [one.body for one in items("logs", outcome.remains)] == ["line 1", "line 2"]


def test_what_a_group_keeps_no_more_is_refused_as_cloudwatch_says():
    writer = cloudwatch.Writer(cloudwatch.Config())
    put_in(writer, {"rejectedLogEventsInfo": {"expiredLogEventEndIndex": 1, "tooNewLogEventStartIndex": 2}})
    (outcome,) = writer.write("logs", [logs(3).SerializeToString()])
    assert (outcome.fate, outcome.rejected) == (Fate.ACCEPTED, 2)
    assert [one.body for one in items("logs", outcome.remains)] == ["line 0", "line 2"]


def test_a_group_that_is_not_there_is_made():
    writer = cloudwatch.Writer(cloudwatch.Config())
    clients = put_in(writer, answered("ResourceNotFoundException"), answered("ResourceAlreadyExistsException"))
    (outcome,) = writer.write("logs", [logs(1).SerializeToString()])
    assert outcome.fate is Fate.ACCEPTED
    assert [name for name, _ in clients.asked] == ["put_log_events", "create_log_group", "create_log_stream", "put_log_events"]


def test_a_group_that_may_not_be_made_is_waited_for():
    writer = cloudwatch.Writer(cloudwatch.Config(create=False))
    put_in(writer, answered("ResourceNotFoundException"))
    (outcome,) = writer.write("logs", [logs(1).SerializeToString()])
    assert outcome == Outcome(Fate.RETRY, "CloudWatch answers ResourceNotFoundException")


class Choosy(Clients):
    """Refuses a call in which `poison` is."""

    def __init__(self, poison: str) -> None:
        super().__init__()
        self.poison = poison

    def put_log_events(self, **asked: Any) -> Any:
        self.asked.append(("put_log_events", asked))
        if any(self.poison in one["message"] for one in asked["logEvents"]):
            raise answered("InvalidParameterException")
        return {}


def test_a_refused_call_condemns_only_the_event_that_is_to_blame():
    writer = cloudwatch.Writer(cloudwatch.Config())
    clients = Choosy('"line 37"')
    writer._clients = clients
    outcomes = writer.write("logs", [logs(30).SerializeToString(), logs(40).SerializeToString()])
    assert [(one.fate, one.rejected) for one in outcomes] == [(Fate.ACCEPTED, 0), (Fate.ACCEPTED, 1)]
    assert [one.body for one in items("logs", outcomes[1].remains)] == ["line 37"]
    taken = [
        asked["logEvents"] for _, asked in clients.asked if not any("line 37" in one["message"] for one in asked["logEvents"])
    ]
    assert sum(map(len, taken)) == 69


def test_calls_that_are_all_refused_are_a_settings_fault_and_lose_nothing():
    writer = cloudwatch.Writer(cloudwatch.Config())
    clients = Choosy("line")
    writer._clients = clients
    (outcome,) = writer.write("logs", [logs(500).SerializeToString()])
    assert outcome.fate is Fate.RETRY
    assert "InvalidParameterException" in outcome.reason
    assert len(clients.asked) == 100


def test_calls_keep_cloudwatchs_limits():
    writer = cloudwatch.Writer(cloudwatch.Config())
    clients = put_in(writer)
    request = logs(12_000)
    writer.write("logs", [request.SerializeToString()])
    for _, asked in clients.asked:
        assert len(asked["logEvents"]) <= 10_000
        assert sum(len(one["message"]) + 26 for one in asked["logEvents"]) <= 1_048_576
    assert sum(len(asked["logEvents"]) for _, asked in clients.asked) == 12_000


def test_a_point_is_in_the_embedded_metric_format():
    request = metrics(1)
    metric = request.resource_metrics[0].scope_metrics[0].metrics[0]
    metric.unit = "s"
    metric.gauge.data_points[0].attributes.add(key="wafer.job.name").value.string_value = "sort"
    writer = cloudwatch.Writer(cloudwatch.Config())
    clients = put_in(writer)
    writer.write("metrics", [request.SerializeToString()])
    ((_, asked),) = clients.asked
    told = json.loads(asked["logEvents"][0]["message"])
    (declared,) = told["_aws"]["CloudWatchMetrics"]
    assert declared["Namespace"] == "WaferMonitor"
    assert declared["Metrics"] == [{"Name": "queue.length", "Unit": "Seconds"}]
    assert {name: told[name] for name in declared["Dimensions"][0]} == {
        "wafer.site.id": "f1",
        "service.name": "sorter",
        "wafer.job.name": "sort",
    }
    assert told["queue.length"] == 0


def test_a_name_that_is_none_of_a_log_group_is_refused_at_once():
    with pytest.raises(StorageRejected, match="log group"):
        cloudwatch.Writer(cloudwatch.Config(log_group_name="jobs of ours"))


def test_segments_go_out_fifty_at_a_time():
    writer = xray.Writer(xray.Config())
    clients = put_in(writer)
    writer.write("traces", [spans(120).SerializeToString()])
    assert [len(asked["TraceSegmentDocuments"]) for _, asked in clients.asked] == [50, 50, 20]


@pytest.mark.parametrize(("code", "fate", "rejected"), [("ThrottledRequest", Fate.RETRY, 0), ("ParseError", Fate.ACCEPTED, 1)])
def test_a_segment_that_is_unprocessed_alone(code, fate, rejected):
    writer = xray.Writer(xray.Config())
    put_in(writer, {"UnprocessedTraceSegments": [{"Id": f"{2:016x}", "ErrorCode": code}]})
    (outcome,) = writer.write("traces", [spans(3).SerializeToString()])
    assert (outcome.fate, outcome.rejected) == (fate, rejected)


@pytest.mark.parametrize("answer", [{}, answered("InvalidRequestException")])
def test_x_ray_is_there_when_it_answers_to_the_key(answer):
    writer = xray.Writer(xray.Config())
    put_in(writer, answer)
    writer.check()


@pytest.mark.parametrize(
    "writer", [xray.Writer(xray.Config()), cloudwatch.Writer(cloudwatch.Config()), sqs.Writer(sqs.Config(queue_url="q"))]
)
@pytest.mark.parametrize("error", [AWAY, answered("UnrecognizedClientException")])
def test_a_check_says_why_not(writer, error):
    put_in(writer, error)
    with pytest.raises(StorageUnavailable, match="answer"):
        writer.check()


def test_what_no_segment_can_be_is_refused_alone():
    request = spans(3)
    found = request.resource_spans[0].scope_spans[0].spans
    found[0].span_id = b""
    found[1].attributes.add(key="long").value.string_value = "x" * 70_000
    writer = xray.Writer(xray.Config())
    put_in(writer)
    (outcome,) = writer.write("traces", [request.SerializeToString()])
    assert (outcome.fate, outcome.rejected) == (Fate.ACCEPTED, 2)


def segment_of(change: Any) -> dict[str, Any]:
    request = spans(1)
    change(request.resource_spans[0].scope_spans[0].spans[0])
    (span,) = items("traces", request.SerializeToString())
    assert isinstance(span, Span)
    return json.loads(xray._encode(xray.segment(span, ("step", "wafer.site.id", "lots"))))


def test_a_span_without_parent_is_a_segment_with_what_can_be_searched():
    found = segment_of(lambda span: span.attributes.add(key="lots").value.array_value.values.add(string_value="L1"))
    assert "type" not in found
    assert found["trace_id"] == "1-01020304-05060708090a0b0c0d0e0f10"
    assert found["annotations"] == {"step": "probe", "otel.resource.wafer.site.id": "f1", "lots": "L1"}


def test_a_span_with_a_parent_is_a_subsegment_and_a_serving_one_its_services_segment():
    def inner(span: Any) -> None:
        span.parent_span_id = bytes(range(8))

    def serving(span: Any) -> None:
        span.parent_span_id = bytes(range(8))
        span.kind = 2

    assert segment_of(inner)["type"] == "subsegment"
    assert "type" not in segment_of(serving)
    assert segment_of(serving)["name"] == "sorter"


def test_an_error_is_a_fault_with_its_exceptions():
    def failed(span: Any) -> None:
        span.status.code = 2
        span.events.add(name="exception").attributes.add(key="exception.type").value.string_value = "ValueError"

    found = segment_of(failed)
    assert found["fault"] is True
    assert [one["type"] for one in found["cause"]["exceptions"]] == ["ValueError"]


def test_a_tally_lets_another_try_outweigh_the_rest():
    tally = aws.Tally("logs", [logs(2).SerializeToString()])
    tally.settle(0, Outcome(Fate.REJECTED, "never"))
    tally.settle(0, Outcome(Fate.RETRY, "later"))
    tally.refuse(0, 1, "one")
    assert tally.outcomes() == [Outcome(Fate.RETRY, "later")]
