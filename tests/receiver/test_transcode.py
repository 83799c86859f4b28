"""What each OTLP field becomes, and what is mended or rejected on the way."""

from __future__ import annotations

import contextlib
import json
import time

import pytest

from tests.receiver.otlp import SECOND_NS, START_NS, TRACE_ID, as_json, last_item, logs, metrics, resource, spans, text
from wafermonitor.receiver.errors import RequestRejected
from wafermonitor.receiver.transcode import assembly, policies
from wafermonitor.receiver.transcode import json as json_lane
from wafermonitor.receiver.transcode import python as protobuf_lane
from wafermonitor.receiver.transcode.policies import MAX_ITEM_BYTES, MAX_SAMPLE_BYTES, Repair
from wafermonitor.receiver.transcode.protocol import Encoding, Request, Signal, Transcoded
from wafermonitor.runs.records import MAX_LABEL_BYTES, UNSET_SITE
from wafermonitor.semconv import attributes as names
from wafermonitor.semconv import events

RECEIVED_NS = START_NS + 10**12
SPAN_ID = (1).to_bytes(8, "big")


def protobuf(signal: Signal, request, received_ns: int = RECEIVED_NS) -> Transcoded:
    body = request if isinstance(request, bytes) else request.SerializeToString()
    return protobuf_lane.Lane().transcode(Request(signal, Encoding.PROTOBUF, body, received_ns))


def from_json(signal: Signal, body: bytes) -> Transcoded:
    return json_lane.Lane().transcode(Request(signal, Encoding.JSON, body, RECEIVED_NS))


def shown(span) -> dict:
    return json.loads(span.attributes)


def test_a_span_keeps_every_field():
    request = spans()
    span = last_item(request)
    span.parent_span_id = b"parent!!"
    span.trace_state = "a=1"
    span.flags = 0x301
    span.status.code = 2
    span.status.message = "no contact"
    span.dropped_attributes_count, span.dropped_events_count, span.dropped_links_count = 1, 2, 3
    event = span.events.add(time_unix_nano=START_NS + 5, name="touch down", dropped_attributes_count=4)
    event.attributes.append(text("site", "3"))
    span.links.add(trace_id=b"\x01" * 16, span_id=b"\x02" * 8, trace_state="b=2", flags=1).attributes.append(text("k", "v"))
    (row,) = protobuf(Signal.TRACES, request).batch.spans
    assert (row.trace_id, row.span_id, row.parent_span_id) == (TRACE_ID, SPAN_ID, b"parent!!")
    assert (row.name, row.kind, row.start_ns, row.duration_ns) == ("span 1", 1, START_NS + 1, SECOND_NS)
    assert (row.status, row.status_message, row.flags, row.trace_state) == (2, "no contact", 0x301, "a=1")
    assert (row.dropped_attributes, row.dropped_events, row.dropped_links) == (1, 2, 3)
    assert json.loads(row.events) == [
        {"time_ns": START_NS + 5, "name": "touch down", "attributes": {"site": "3"}, "dropped_attributes": 4}
    ]
    assert json.loads(row.links) == [
        {"trace_id": "01" * 16, "span_id": "02" * 8, "trace_state": "b=2", "flags": 1, "attributes": {"k": "v"}}
    ]
    assert (row.resource.site, row.resource.service, row.scope.name) == ("f1", "sorter", "tests")
    assert row.received_ns == RECEIVED_NS


def test_attributes_are_canonical_json():
    request = spans()
    span = last_item(request)
    span.ClearField("attributes")
    for key, field, value in (
        ("z", "int_value", 2**53 + 1),
        ("é", "double_value", 5.0),
        ("b", "bytes_value", b"\x00\xff"),
        ("a", "bool_value", False),
        ("s", "string_value", ""),
    ):
        setattr(span.attributes.add(key=key).value, field, value)
    span.attributes.add(key="none").value.SetInParent()
    pair = span.attributes.add(key="map").value.kvlist_value.values.add(key="list")
    pair.value.array_value.values.add(int_value=-(2**63))
    (row,) = protobuf(Signal.TRACES, request).batch.spans
    assert row.attributes == (
        '{"a":false,"b":{"bytesValue":"AP8="},"map":{"list":[-9223372036854775808]},'
        '"none":null,"s":"","z":9007199254740993,"é":5.0}'
    )


def test_attributes_in_an_unlucky_order_cost_no_more_than_others():
    def cost_s(number: int) -> float:
        request = spans()
        for index in range(number):
            last_item(request).attributes.add(key=f"k{index:06}").value.int_value = 1
        body = request.SerializeToString()
        began_s = time.process_time()
        (row,) = protobuf(Signal.TRACES, body).batch.spans
        assert list(shown(row)) == sorted(shown(row))
        return time.process_time() - began_s

    cost_s(1000)
    # Ten times as many take about ten times as long; a sort that goes wrong would take a hundred times.
    assert cost_s(100_000) < 30 * cost_s(10_000)


def test_large_values_are_canonical_at_every_level():
    request = logs()
    inner = last_item(request).body.kvlist_value
    for index in range(2000):
        pair = inner.values.add(key=f"{index * 7919 % 2000:04}").value.array_value.values.add().kvlist_value
        pair.values.extend([text("é", "1"), text("z", "2"), text("a", "3")])
    (row,) = protobuf(Signal.LOGS, request).batch.logs
    assert row.body == json.dumps(json.loads(row.body), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def test_equal_resources_have_one_key_and_another_site_has_another():
    keys = []
    for site, order in (("f1", 1), ("f1", -1), ("f2", 1)):
        request = spans()
        attributes = [text(names.WAFER_SITE_ID, site), text(names.SERVICE_NAME, "sorter"), text("rack", "7")]
        group = request.resource_spans[0]
        group.resource.ClearField("attributes")
        group.resource.attributes.extend(attributes[::order])
        (row,) = protobuf(Signal.TRACES, request).batch.spans
        keys.append(row.resource.key)
    assert keys[0] == keys[1] != keys[2]


def test_a_sender_without_a_site_is_stored_under_unset():
    request = spans()
    request.resource_spans[0].ClearField("resource")
    (row,) = protobuf(Signal.TRACES, request).batch.spans
    assert (row.resource.site, row.resource.service, row.resource.attributes) == (UNSET_SITE, "unknown_service", "{}")


def test_a_span_with_a_job_name_is_a_run_and_its_events_are_heard():
    request = spans()
    span = last_item(request)
    span.attributes.append(text(names.WAFER_JOB_NAME, "lot_yield"))
    span.status.code = 2
    progress = span.events.add(time_unix_nano=START_NS + 9, name=events.WAFER_JOB_PROGRESS)
    progress.attributes.add(key=names.WAFER_JOB_PROGRESS_RATIO).value.double_value = 0.5
    span.events.add(time_unix_nano=START_NS, name="something else")
    (final,) = protobuf(Signal.TRACES, request).batch.runs
    assert (final.key.site, final.trace_id, final.span_id, final.job, final.result) == (
        "f1",
        TRACE_ID,
        SPAN_ID,
        "lot_yield",
        "failure",
    )
    assert (final.end_rank, final.end_ns) == (2, START_NS + 1 + SECOND_NS)
    assert final.progress.ratio == 0.5


def lifecycle_log(name: str, **times: int):
    request = logs()
    record = last_item(request)
    request.resource_logs[0].resource.attributes.append(text(names.WAFER_FEED_ID, "host-1"))
    request.resource_logs[0].resource.attributes.append(text(names.SERVICE_INSTANCE_ID, "i-1"))
    record.event_name = name
    record.trace_id, record.span_id = TRACE_ID, SPAN_ID
    record.attributes.append(text(names.WAFER_JOB_NAME, "lot_yield"))
    record.attributes.add(key=names.WAFER_JOB_HEARTBEAT_INTERVAL).value.double_value = 30
    for field, value in times.items():
        setattr(record, field, value)
    return request


def test_a_start_event_opens_a_run_and_a_heartbeat_counts_for_its_process():
    started = protobuf(Signal.LOGS, lifecycle_log(events.WAFER_JOB_START)).batch
    assert (started.runs[0].job, started.runs[0].start_ns, started.runs[0].end_rank) == ("lot_yield", START_NS, 0)
    assert not started.processes
    beating = protobuf(Signal.LOGS, lifecycle_log(events.WAFER_JOB_HEARTBEAT)).batch
    (process,) = beating.processes
    assert (process.key, process.beat_ns, process.interval_s) == (started.runs[0].process_key, START_NS, 30)


def test_a_beat_from_the_future_is_clamped_to_now():
    request = lifecycle_log(events.WAFER_FEED_BEAT, time_unix_nano=RECEIVED_NS + 5)
    (beat,) = protobuf(Signal.LOGS, request).batch.feeds
    assert (beat.site, beat.feed, beat.beat_ns, beat.skew_ns) == ("f1", "host-1", RECEIVED_NS, -5)


@pytest.mark.parametrize(
    ("sent_ns", "observed_ns", "time_ns"),
    [(START_NS, 5, START_NS), (0, START_NS + 7, START_NS + 7), (0, 0, RECEIVED_NS)],
    ids=["its own", "the observed one", "ours"],
)
def test_a_line_without_a_time_takes_the_observed_one_then_ours(sent_ns, observed_ns, time_ns):
    request = logs()
    last_item(request).time_unix_nano, last_item(request).observed_time_unix_nano = sent_ns, observed_ns
    (row,) = protobuf(Signal.LOGS, request).batch.logs
    assert row.time_ns == time_ns


def test_a_line_sent_twice_has_one_digest_whenever_it_arrives():
    first, second = (protobuf(Signal.LOGS, logs(), received_ns).batch.logs[0] for received_ns in (RECEIVED_NS, RECEIVED_NS + 1))
    assert first.digest == second.digest
    assert first.received_ns != second.received_ns


DIFFERENCES = {
    "site": lambda request, _: request.resource_logs[0].resource.attributes.append(text(names.WAFER_SITE_ID, "f2")),
    "host": lambda request, _: request.resource_logs[0].resource.attributes.append(text(names.HOST_NAME, "h2")),
    "scope": lambda request, _: setattr(request.resource_logs[0].scope_logs[0].scope, "name", "other"),
    "trace": lambda _, record: setattr(record, "trace_id", TRACE_ID),
    "span": lambda _, record: setattr(record, "span_id", SPAN_ID),
    "event": lambda _, record: setattr(record, "event_name", "e"),
    "observed": lambda _, record: setattr(record, "observed_time_unix_nano", 1),
    "time": lambda _, record: setattr(record, "time_unix_nano", START_NS + 1),
    "severity": lambda _, record: setattr(record, "severity_number", 17),
    "body": lambda _, record: setattr(record.body, "string_value", "other"),
    "attributes": lambda _, record: record.attributes.append(text("k", "v")),
}


@pytest.mark.parametrize("difference", DIFFERENCES)
def test_lines_that_differ_anywhere_have_different_digests(difference):
    changed = logs()
    DIFFERENCES[difference](changed, last_item(changed))
    digests = {protobuf(Signal.LOGS, request).batch.logs[0].digest for request in (logs(), changed)}
    assert len(digests) == 2


def test_a_digest_cannot_be_forged_by_moving_text_between_fields():
    assert policies.digest(b"ab", b"c") != policies.digest(b"a", b"bc")


def test_a_body_may_be_any_value():
    request = logs()
    last_item(request).body.kvlist_value.values.append(text("k", "v"))
    (row,) = protobuf(Signal.LOGS, request).batch.logs
    assert row.body == '{"k":"v"}'


def test_numbers_are_points_of_one_series():
    first, second = protobuf(Signal.METRICS, metrics(2)).batch.points
    assert first.series.key == second.series.key
    assert (first.series.type, first.series.name, first.series.unit, first.value, second.value) == (
        "gauge",
        "queue.length",
        "1",
        0.0,
        1.0,
    )


def metric(kind: str):
    request = metrics(0)
    item = last_item(request)
    return request, getattr(item, kind)


def test_a_sum_keeps_temporality_and_monotony():
    request, data = metric("sum")
    data.aggregation_temporality, data.is_monotonic = 1, True
    data.data_points.add(time_unix_nano=START_NS, start_time_unix_nano=START_NS - 1, as_double=1.5)
    (point,) = protobuf(Signal.METRICS, request).batch.points
    assert (point.series.type, point.series.temporality, point.series.monotonic) == ("sum", 1, True)
    assert (point.value, point.start_ns) == (1.5, START_NS - 1)


def test_a_histogram_keeps_its_buckets_and_what_it_does_not_know():
    request, data = metric("histogram")
    data.data_points.add(time_unix_nano=START_NS, count=3, sum=4.5, bucket_counts=[1, 2, 0], explicit_bounds=[1, 2])
    (point,) = protobuf(Signal.METRICS, request).batch.points
    assert (point.count, point.sum, point.min, point.max) == (3, 4.5, None, None)
    assert (point.bounds, point.buckets) == ((1, 2), (1, 2, 0))


def test_an_exponential_histogram_gets_the_bounds_it_stands_for():
    request, data = metric("exponential_histogram")
    point = data.data_points.add(time_unix_nano=START_NS, count=15, scale=0, zero_count=4)
    point.positive.offset = 1  # (2, 4] and (4, 8]
    point.positive.bucket_counts.extend([1, 2])
    point.negative.offset = 0  # [-2, -1) and [-4, -2)
    point.negative.bucket_counts.extend([3, 5])
    (row,) = protobuf(Signal.METRICS, request).batch.points
    assert row.bounds == (-4, -2, -1, 2, 4, 8)
    assert row.buckets == (0, 5, 3, 4, 1, 2, 0)


def test_an_exponential_histogram_at_the_ends_of_the_doubles_keeps_every_count():
    request, data = metric("exponential_histogram")
    point = data.data_points.add(time_unix_nano=START_NS, count=8, scale=-10, zero_count=0)
    point.positive.offset = -3
    point.positive.bucket_counts.extend([1] * 8)
    (row,) = protobuf(Signal.METRICS, request).batch.points
    assert sum(row.buckets) == 8
    assert list(row.bounds) == sorted(set(row.bounds))


def test_a_summary_keeps_its_quantiles():
    request, data = metric("summary")
    data.data_points.add(time_unix_nano=START_NS, count=9, sum=18).quantile_values.add(quantile=0.5, value=2)
    (point,) = protobuf(Signal.METRICS, request).batch.points
    assert (point.count, point.sum, point.bounds, point.quantile_values) == (9, 18, (0.5,), (2,))


def test_a_number_that_is_not_finite_is_null_and_stays_in_its_series():
    request, data = metric("gauge")
    data.data_points.add(time_unix_nano=START_NS, as_double=float("nan"))
    data.data_points.add(time_unix_nano=START_NS + 1, as_double=1)
    result = protobuf(Signal.METRICS, request)
    assert [point.value for point in result.batch.points] == [None, 1.0]
    assert len({point.series.key for point in result.batch.points}) == 1
    assert result.repaired == 1


def test_a_bad_point_is_rejected_alone():
    request, data = metric("histogram")
    data.data_points.add(time_unix_nano=START_NS, count=1, bucket_counts=[1, 0], explicit_bounds=[1])
    data.data_points.add(time_unix_nano=START_NS, count=1, bucket_counts=[1], explicit_bounds=[1])
    data.data_points.add(time_unix_nano=START_NS, count=1, bucket_counts=[1, 0, 0], explicit_bounds=[2, 1])
    result = protobuf(Signal.METRICS, request)
    assert (len(result.batch.points), result.rejected, len(result.batch.dead)) == (1, 2, 2)


# Poison: each kind among good spans. The change is made to the message, or to its bytes where no message can say it.
def _attribute(span, value) -> None:
    span.attributes.append(text("poison", value))


def _deep(span) -> None:
    value = span.attributes.add(key="deep").value
    for _ in range(policies.MAX_DEPTH + 1):
        value = value.kvlist_value.values.add(key="k").value
    value.int_value = 1


POISON = {
    "short trace id": (lambda span: setattr(span, "trace_id", b"short"), None),
    "zero trace id": (lambda span: setattr(span, "trace_id", bytes(16)), None),
    "no span id": (lambda span: setattr(span, "span_id", b""), None),
    "long parent": (lambda span: setattr(span, "parent_span_id", b"x" * 9), None),
    "time after 2262": (lambda span: setattr(span, "end_time_unix_nano", 2**64 - 1), None),
    "too deep": (_deep, None),
    "nul in text": (lambda span: setattr(span, "name", "a\0b"), Repair.NUL),
    "nul in attribute": (lambda span: _attribute(span, "\0"), Repair.NUL),
    "not a number": (lambda span: setattr(span.attributes.add(key="x").value, "double_value", float("nan")), Repair.NOT_FINITE),
    "infinite": (lambda span: setattr(span.attributes.add(key="x").value, "double_value", float("-inf")), Repair.NOT_FINITE),
    "key twice": (lambda span: span.attributes.extend([text("k", "1"), text("k", "2")]), Repair.DUPLICATE_KEY),
    "end before start": (lambda span: setattr(span, "end_time_unix_nano", 5), Repair.END_BEFORE_START),
    "no start": (lambda span: setattr(span, "start_time_unix_nano", 0), Repair.NO_START),
    "no end": (lambda span: setattr(span, "end_time_unix_nano", 0), Repair.NO_END),
    "kind of the future": (lambda span: setattr(span, "kind", 77), Repair.UNKNOWN_ENUM),
    "event without time": (lambda span: span.events.add(name="e"), Repair.NO_TIME),
}


@pytest.mark.parametrize("encoding", [Encoding.PROTOBUF, Encoding.JSON])
@pytest.mark.parametrize("kind", POISON)
def test_poison_is_mended_or_rejected_and_never_touches_its_neighbours(kind, encoding):
    change, repair = POISON[kind]
    request = spans(1000)
    change(request.resource_spans[0].scope_spans[0].spans[500])
    result = protobuf(Signal.TRACES, request) if encoding is Encoding.PROTOBUF else from_json(Signal.TRACES, as_json(request))
    marked = [span for span in result.batch.spans if names.WAFER_REPAIRED in span.attributes]
    assert len(result.batch.spans) - len(marked) == 999
    assert len(marked) == (repair is not None) == result.repaired
    assert result.rejected == len(result.batch.dead) == (repair is None)
    if repair is not None:
        assert shown(marked[0])[names.WAFER_REPAIRED] == [repair]
    else:
        (letter,) = result.batch.dead
        assert (letter.site, letter.signal, letter.received_ns) == ("f1", "traces", RECEIVED_NS)
        assert letter.reason in result.message
        assert letter.sample


BYTES = {
    "no utf-8": (b"\xff\xfe", "\ufffd\ufffd", Repair.INVALID_UTF8),
    "half a character": (b"\xe2\x82", "\ufffd", Repair.INVALID_UTF8),
    "surrogate as utf-8": (b"\xed\xa0\x80", "\ufffd\ufffd\ufffd", Repair.INVALID_UTF8),
}


@pytest.mark.parametrize("encoding", [Encoding.PROTOBUF, Encoding.JSON])
@pytest.mark.parametrize("kind", BYTES)
def test_text_that_is_no_utf_8_is_mended_in_its_own_span(kind, encoding):
    raw, mended, repair = BYTES[kind]
    request = spans(3)
    request.resource_spans[0].scope_spans[0].spans[1].name = "#" * len(raw)
    body = request.SerializeToString() if encoding is Encoding.PROTOBUF else as_json(request)
    body = body.replace(b"#" * len(raw), raw)
    result = protobuf(Signal.TRACES, body) if encoding is Encoding.PROTOBUF else from_json(Signal.TRACES, body)
    assert [span.name for span in result.batch.spans] == ["span 1", mended, "span 3"]
    assert [shown(span).get(names.WAFER_REPAIRED) for span in result.batch.spans] == [None, [repair], None]


@pytest.mark.parametrize(
    ("escaped", "mended"),
    [
        (rb"a\ud800b", "a\ufffdb"),
        (rb"\uDFFF", "\ufffd"),
        (rb"\ud800\ud83d\ude00", "\ufffd\U0001f600"),
        (rb"\ud800A", "\ufffdA"),
        (rb"\\ud800", r"\ud800"),
        (rb"\ud83d\ude00", "\U0001f600"),
    ],
)
def test_lone_surrogates_are_mended_and_pairs_are_not(escaped, mended):
    body = as_json(spans(2)).replace(b"span 1", escaped)
    result = from_json(Signal.TRACES, body)
    assert [span.name for span in result.batch.spans] == [mended, "span 2"]
    assert result.repaired == ("\ufffd" in mended)


def test_bytes_inside_a_span_that_are_no_protobuf_reject_that_span_alone():
    request = spans(3)
    request.resource_spans[0].scope_spans[0].spans[1].name = "########"
    body = request.SerializeToString().replace(b"\x08########", b"\x08\xff\xff\xff\xff\xff\xff\xff\xff")
    assert protobuf(Signal.TRACES, body).repaired == 1
    broken = request.SerializeToString().replace(b"\x2a\x08########", b"\x2f\x08########")
    result = protobuf(Signal.TRACES, broken)
    assert ([span.name for span in result.batch.spans], result.rejected) == (["span 1", "span 3"], 1)
    assert b"########" in result.batch.dead[0].sample


def test_an_item_that_is_too_large_is_rejected_with_a_short_sample():
    request = spans(2)
    last_item(request).attributes.append(text("huge", "x" * MAX_ITEM_BYTES))
    result = protobuf(Signal.TRACES, request)
    assert (len(result.batch.spans), result.rejected) == (1, 1)
    assert len(result.batch.dead[0].sample) == MAX_SAMPLE_BYTES


@pytest.mark.parametrize("encoding", [Encoding.PROTOBUF, Encoding.JSON])
def test_a_request_has_so_many_parts_over_all_its_items(encoding, monkeypatch):
    """Two bytes of an event become sixty: what is within bounds item by item need not be so as a whole."""
    monkeypatch.setattr(assembly, "MAX_REQUEST_PARTS", 10)
    spans_, points = spans(4), metrics()
    for span, parts in zip(spans_.resource_spans[0].scope_spans[0].spans, (6, 5, 4, 0), strict=True):
        for number in range(parts):
            (span.links if number % 2 else span.events).add()
    found = points.resource_metrics[0].scope_metrics[0].metrics
    found.add().histogram.data_points.add(bucket_counts=[1] * 3, explicit_bounds=[1, 2])
    found.add().summary.data_points.add().quantile_values.add(quantile=0.5)
    found.add().exponential_histogram.data_points.add().positive.bucket_counts.append(1)
    for signal, request, items in ((Signal.TRACES, spans_, 3), (Signal.METRICS, points, 3)):
        body = request.SerializeToString() if encoding is Encoding.PROTOBUF else as_json(request)
        result = protobuf(signal, body) if encoding is Encoding.PROTOBUF else from_json(signal, body)
        assert (result.batch.items, result.rejected) == (items, 1)
        assert "more than 10 parts of items; send smaller ones (1)" in result.message


def test_a_long_value_is_kept_and_a_long_label_is_cut():
    request = spans()
    request.resource_spans[0].resource.attributes.append(text(names.SERVICE_NAME, "é" * 5000))
    span = last_item(request)
    span.attributes.extend([text(names.WAFER_JOB_NAME, "j" * 5000), text("long", "x" * 100_000)])
    result = protobuf(Signal.TRACES, request)
    (row,), (run,) = result.batch.spans, result.batch.runs
    assert len(shown(row)["long"]) == 100_000
    assert len(shown(row)[names.WAFER_JOB_NAME]) == 5000
    assert len(run.job.encode()) == MAX_LABEL_BYTES
    assert len(row.resource.service.encode()) <= MAX_LABEL_BYTES
    assert Repair.LABEL in json.loads(row.resource.attributes)[names.WAFER_REPAIRED]


def test_a_resource_that_cannot_be_read_condemns_its_own_items_only():
    request = spans(2)
    resource(request.resource_spans.add())
    request.resource_spans[1].CopyFrom(spans(1, first=9).resource_spans[0])
    _deep(request.resource_spans[0].resource)
    result = protobuf(Signal.TRACES, request)
    assert ([span.name for span in result.batch.spans], result.rejected) == (["span 9"], 2)


def test_the_reasons_told_to_the_sender_are_few():
    request = spans(40)
    for index, span in enumerate(request.resource_spans[0].scope_spans[0].spans):
        span.trace_id = b"x" * (17 + index)
    result = protobuf(Signal.TRACES, request)
    assert result.rejected == 40
    assert result.message.count(";") == 4
    assert len(result.message) < 500


def test_json_nested_beyond_the_parser_rejects_its_item_alone():
    good = as_json(spans(3))
    nest = b'{"arrayValue":{"values":[' * 400 + b"]}}" * 400
    body = good.replace(b'"span 2"', b'"span 2","attributes":[{"key":"k","value":' + nest + b"}]", 1)
    deeper = good.replace(b'"span 2"', b'"span 2","unknown":' + b"[" * 5000 + b"]" * 5000, 1)
    assert [span.name for span in from_json(Signal.TRACES, body).batch.spans] == ["span 1", "span 3"]
    assert [span.name for span in from_json(Signal.TRACES, deeper).batch.spans] == ["span 1", "span 2", "span 3"]


@pytest.mark.parametrize("encoding", [Encoding.PROTOBUF, Encoding.JSON])
@pytest.mark.parametrize("shape", ["array_value", "kvlist_value"])
def test_values_as_deep_as_allowed_are_kept(encoding, shape):
    request = spans()
    value = last_item(request).attributes.add(key="deep").value
    for _ in range(policies.MAX_DEPTH):
        inner = getattr(value, shape).values.add()
        value = inner if shape == "array_value" else inner.value
    value.string_value = "bottom"
    result = protobuf(Signal.TRACES, request) if encoding is Encoding.PROTOBUF else from_json(Signal.TRACES, as_json(request))
    assert result.rejected == 0
    assert "bottom" in result.batch.spans[0].attributes


def test_a_body_of_another_signal_is_no_crash():
    for signal in Signal:
        with contextlib.suppress(RequestRejected):
            protobuf(signal, logs(3))
