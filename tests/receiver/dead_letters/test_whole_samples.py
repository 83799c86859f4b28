"""What a lane rejects is kept as a request with that item alone: shown and sent again with its resource, scope and metric."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.receiver.native.generated import fixed64, integer, lengthy
from tests.receiver.otlp import as_json, last_item, logs, metrics, spans, text
from tests.receiver.test_transcode import POISON
from wafermonitor.receiver.dead_letters import samples
from wafermonitor.receiver.dead_letters.retry import lanes
from wafermonitor.receiver.transcode import points, python
from wafermonitor.receiver.transcode.policies import MAX_SAMPLE_BYTES, SAMPLES
from wafermonitor.receiver.transcode.protocol import Encoding, Request, Signal, Transcoded
from wafermonitor.runs.records import DeadLetter
from wafermonitor.semconv import attributes as names

ENCODINGS = [Encoding.PROTOBUF, Encoding.JSON]
REJECTED = [kind for kind, (_, repair) in POISON.items() if repair is None]
NOW = 1_789_000_000_000_000_000


def transcode(signal: Signal, request: Any, encoding: Encoding) -> Transcoded:
    body = request if isinstance(request, bytes) else None
    if body is None:
        body = request.SerializeToString() if encoding is Encoding.PROTOBUF else as_json(request)
    return lanes()[encoding].transcode(Request(signal, encoding, body, NOW))


def again(dead: DeadLetter) -> Transcoded:
    request = samples.request_of(dead)
    return lanes()[request.encoding].transcode(request)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("kind", REJECTED)
def test_a_rejected_span_comes_with_its_resource_and_scope(kind, encoding):
    request = spans(3)
    change, _ = POISON[kind]
    change(request.resource_spans[0].scope_spans[0].spans[1])
    (dead,) = transcode(Signal.TRACES, request, encoding).batch.dead
    del request.resource_spans[0].scope_spans[0].spans[2], request.resource_spans[0].scope_spans[0].spans[0]
    expected, shown = json.loads(as_json(request)), samples.view(dead)
    if (kind, encoding) == ("too deep", Encoding.PROTOBUF):  # no reader of protobuf follows it: the item is shown as it came
        for one in (expected, shown):
            assert one["resourceSpans"][0]["scopeSpans"][0].pop("spans")
    assert shown == expected
    (same,) = again(dead).batch.dead
    assert same == dead


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("kind", ["gauge", "sum", "histogram", "exponential_histogram", "summary"])
def test_a_rejected_point_is_sent_again_with_its_metric(kind, encoding, monkeypatch):
    request = metrics(0)
    metric = last_item(request)
    data = getattr(metric, kind)
    if kind not in ("gauge", "summary"):
        data.aggregation_temporality = 2
    if kind == "sum":
        data.is_monotonic = True
    for place in range(3):
        data.data_points.add(time_unix_nano=2**63 + place if place == 1 else NOW + place).attributes.append(
            text("n", str(place))
        )
    done = transcode(Signal.METRICS, request, encoding)
    (dead,) = done.batch.dead
    with monkeypatch.context() as newer:
        newer.setattr(points, "instant", lambda time_ns: min(time_ns, 2**62))
        (point,) = again(dead).batch.points
    good = done.batch.points[0].series
    assert point.series._replace(key=good.key, attributes=good.attributes) == good
    assert (point.series.attributes, point.time_ns) == ('{"n":"1"}', 2**62)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_items_of_several_groups_have_each_their_own_frame(encoding):
    request = spans(1)
    for number in range(3):
        group = request.resource_spans.add()
        group.resource.attributes.append(text(names.WAFER_SITE_ID, f"g{number}"))
        for place in range(2):
            scoped = group.scope_spans.add()
            scoped.scope.name = f"{number}.{place}"
            scoped.spans.add(name="bad")
    seen = []
    for dead in transcode(Signal.TRACES, request, encoding).batch.dead:
        (group,) = samples.view(dead)["resourceSpans"]
        site = group["resource"]["attributes"][0]["value"]["stringValue"]
        seen.append((dead.site, site, group["scopeSpans"][0]["scope"]["name"]))
    assert seen == [(f"g{number}", f"g{number}", f"{number}.{place}") for number in range(3) for place in range(2)]


def test_an_item_that_is_no_message_is_shown_in_its_frame():
    request = logs(1)
    record = last_item(request)
    record.Clear()
    record.severity_text = "#####"
    body = request.SerializeToString().replace(b"#####", b"\xff" * 5).replace(b"\x1a\x05", b"\x1a\x7f")
    (dead,) = transcode(Signal.LOGS, body, Encoding.PROTOBUF).batch.dead
    shown = samples.view(dead)["resourceLogs"][0]
    assert shown["resource"]["attributes"][0]["value"]["stringValue"] == "f1"
    assert shown["scopeLogs"][0]["logRecords"] == ["\x1a\x7f" + "\ufffd" * 5]
    assert again(dead).batch.dead == [dead]


def test_a_resource_in_two_pieces_is_kept_as_the_one_that_it_is():
    site, host = (lengthy(1, lengthy(1, key) + lengthy(2, lengthy(1, b"f1"))) for key in (b"wafer.site.id", b"host.name"))
    group = lengthy(1, site) + lengthy(2, lengthy(2, b"\xff")) + lengthy(1, host)
    (dead,) = transcode(Signal.TRACES, lengthy(1, group), Encoding.PROTOBUF).batch.dead
    assert dead.sample == python.request_with(site + host, b"", b"\xff")
    assert dead.site == "f1"


def test_a_resource_that_cannot_be_read_is_in_the_sample():
    broken = lengthy(1, lengthy(1, b"k") + lengthy(2, lengthy(5, b"\xff")))
    body = lengthy(1, lengthy(1, broken) + lengthy(2, lengthy(2, fixed64(7, NOW) + integer(6, 1))))
    (dead,) = transcode(Signal.TRACES, body, Encoding.PROTOBUF).batch.dead
    assert dead.sample == body
    assert dead.reason == "resource: array is not valid protobuf"


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_samples_never_take_more_than_a_few_times_the_request(encoding):
    """One long resource around many broken items: the first are kept whole, all are kept."""
    request = spans(2000)
    request.resource_spans[0].resource.attributes.append(text("long", "x" * 20_000))
    for span in request.resource_spans[0].scope_spans[0].spans:
        span.trace_id = b"short"
    body = request.SerializeToString() if encoding is Encoding.PROTOBUF else as_json(request)
    dead = transcode(Signal.TRACES, body, encoding).batch.dead
    whole = [letter for letter in dead if len(letter.sample) > 20_000]
    assert len(dead) == 2000
    assert dead[: len(whole)] == whole
    assert sum(len(letter.sample) for letter in whole) > (SAMPLES - 1) * len(body)
    assert sum(len(letter.sample) for letter in dead) <= (SAMPLES + 1) * len(body) + MAX_SAMPLE_BYTES
    assert [again(letter).rejected for letter in dead[-3:]] == [1] * 3


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("size", [MAX_SAMPLE_BYTES - 400, MAX_SAMPLE_BYTES - 20, MAX_SAMPLE_BYTES + 20])
def test_an_item_that_fills_a_sample_is_kept_bare_and_cut_only_when_it_is_longer(encoding, size):
    request = spans(1)
    last_item(request).trace_id = b"short"
    last_item(request).name = "x" * (size - last_item(request).ByteSize() - 4)
    (dead,) = transcode(Signal.TRACES, request, encoding).batch.dead
    assert len(dead.sample) <= MAX_SAMPLE_BYTES
    assert dead.sample.count(b"x" * 60_000) == 1
    if len(dead.sample) < MAX_SAMPLE_BYTES:
        assert again(dead).rejected == 1
