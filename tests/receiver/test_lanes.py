"""Both lanes make equal rows of equal messages, and no bytes whatever crash them or get past the policies."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.common.v1 import common_pb2

from tests.receiver.otlp import GOOD, REQUESTS, START_NS, as_json, spans
from wafermonitor.receiver.errors import RequestRejected
from wafermonitor.receiver.transcode import json as json_lane
from wafermonitor.receiver.transcode import python as protobuf_lane
from wafermonitor.receiver.transcode.protocol import Encoding, Request, Signal, Transcoded
from wafermonitor.runs.lifecycle import RUN_EVENTS
from wafermonitor.semconv import attributes as names
from wafermonitor.semconv import events

pytestmark = pytest.mark.slow

RECEIVED_NS = START_NS + 10**12
LANES = {Encoding.PROTOBUF: protobuf_lane.Lane(), Encoding.JSON: json_lane.Lane()}
FEW = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


def mostly(good: st.SearchStrategy[Any], bad: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Few bad fields: with many, every item would be rejected and no rows compared."""
    return st.integers(0, 15).flatmap(lambda number: bad if number == 0 else good)


texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
odd_ids = st.one_of(st.binary(max_size=20), st.just(b""), st.just(bytes(16)), st.just(bytes(8)))
trace_ids = mostly(st.binary(min_size=16, max_size=16), odd_ids)
span_ids = mostly(st.binary(min_size=8, max_size=8), odd_ids)
times = mostly(st.integers(START_NS, START_NS + 10**12), st.one_of(st.integers(0, 2**64 - 1), st.just(0)))
counts = st.one_of(st.integers(0, 1000), st.integers(0, 2**32 - 1))
big_counts = mostly(st.integers(0, 1000), st.integers(0, 2**64 - 1))
doubles = st.one_of(st.floats(-1e6, 1e6), st.floats())
keys = st.one_of(
    texts,
    st.sampled_from(
        [
            names.WAFER_JOB_NAME,
            names.WAFER_JOB_RESULT,
            names.WAFER_JOB_PROGRESS_RATIO,
            names.WAFER_JOB_HEARTBEAT_INTERVAL,
            names.WAFER_JOB_DEADLINE,
            names.WAFER_LOT_IDS,
            names.WAFER_JOB_ATTEMPT,
        ]
    ),
)


def _any_value(**fields: Any) -> common_pb2.AnyValue:
    return common_pb2.AnyValue(**fields)


scalars = st.one_of(
    st.builds(_any_value, string_value=texts),
    st.builds(_any_value, bool_value=st.booleans()),
    st.builds(_any_value, int_value=st.integers(-(2**63), 2**63 - 1)),
    st.builds(_any_value, double_value=doubles),
    st.builds(_any_value, bytes_value=st.binary(max_size=9)),
    st.just(common_pb2.AnyValue()),
)


def _nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    pair = st.builds(lambda key, value: common_pb2.KeyValue(key=key, value=value), keys, inner)
    return st.one_of(
        st.lists(inner, max_size=3).map(lambda items: _any_value(array_value=common_pb2.ArrayValue(values=items))),
        st.lists(pair, max_size=3).map(lambda pairs: _any_value(kvlist_value=common_pb2.KeyValueList(values=pairs))),
    )


values = st.recursive(scalars, _nested, max_leaves=6)
attributes = st.lists(st.builds(lambda key, value: common_pb2.KeyValue(key=key, value=value), keys, values), max_size=5)
names_of_events = st.one_of(texts, st.sampled_from([*sorted(RUN_EVENTS), events.WAFER_FEED_BEAT]))


@st.composite
def span_requests(draw: st.DrawFn) -> Any:
    request = _request(draw, Signal.TRACES)
    scoped = request.resource_spans[0].scope_spans[0]
    for _ in range(draw(st.integers(0, 4))):
        span = scoped.spans.add(
            trace_id=draw(trace_ids),
            span_id=draw(span_ids),
            parent_span_id=draw(span_ids),
            trace_state=draw(texts),
            name=draw(texts),
            kind=draw(st.integers(-2, 9)),
            start_time_unix_nano=draw(times),
            end_time_unix_nano=draw(times),
            attributes=draw(attributes),
            dropped_attributes_count=draw(counts),
            dropped_events_count=draw(counts),
            dropped_links_count=draw(counts),
            flags=draw(counts),
        )
        if draw(st.booleans()):
            span.status.code = draw(st.integers(0, 3))
            span.status.message = draw(texts)
        for _ in range(draw(st.integers(0, 2))):
            span.events.add(time_unix_nano=draw(times), name=draw(names_of_events), attributes=draw(attributes))
        for _ in range(draw(st.integers(0, 1))):
            span.links.add(trace_id=draw(trace_ids), span_id=draw(span_ids), attributes=draw(attributes), flags=draw(counts))
    return request


@st.composite
def log_requests(draw: st.DrawFn) -> Any:
    request = _request(draw, Signal.LOGS)
    scoped = request.resource_logs[0].scope_logs[0]
    for _ in range(draw(st.integers(0, 4))):
        record = scoped.log_records.add(
            time_unix_nano=draw(times),
            observed_time_unix_nano=draw(times),
            severity_number=draw(st.integers(-1, 30)),
            severity_text=draw(texts),
            attributes=draw(attributes),
            dropped_attributes_count=draw(counts),
            flags=draw(counts),
            trace_id=draw(trace_ids),
            span_id=draw(span_ids),
            event_name=draw(names_of_events),
        )
        if draw(st.booleans()):
            record.body.CopyFrom(draw(values))
    return request


@st.composite
def metric_requests(draw: st.DrawFn) -> Any:
    request = _request(draw, Signal.METRICS)
    scoped = request.resource_metrics[0].scope_metrics[0]
    for kind in draw(st.lists(st.sampled_from(["gauge", "sum", "histogram", "exponential_histogram", "summary"]), max_size=4)):
        metric = scoped.metrics.add(name=draw(texts), unit=draw(texts))
        data = getattr(metric, kind)
        if kind in ("sum", "histogram", "exponential_histogram"):
            data.aggregation_temporality = draw(st.integers(0, 3))
        if kind == "sum":
            data.is_monotonic = draw(st.booleans())
        for _ in range(draw(st.integers(0, 2))):
            point = data.data_points.add(
                attributes=draw(attributes), time_unix_nano=draw(times), start_time_unix_nano=draw(times), flags=draw(counts)
            )
            _fill(draw, kind, point)
    return request


def _fill(draw: st.DrawFn, kind: str, point: Any) -> None:
    if kind in ("gauge", "sum"):
        which = draw(st.sampled_from(["as_int", "as_double", None]))
        if which is not None:
            setattr(point, which, draw(doubles if which == "as_double" else st.integers(-(2**63), 2**63 - 1)))
        return
    point.count = draw(big_counts)
    if kind == "summary":
        point.sum = draw(doubles)
        for _ in range(draw(st.integers(0, 2))):
            point.quantile_values.add(quantile=draw(doubles), value=draw(doubles))
        return
    for field in ("sum", "min", "max"):
        if draw(st.booleans()):
            setattr(point, field, draw(doubles))
    if kind == "histogram":
        bounds = sorted(draw(st.lists(st.floats(-100, 100), max_size=3, unique=True)))
        point.explicit_bounds.extend(bounds)
        point.bucket_counts.extend(
            draw(st.lists(big_counts, min_size=len(bounds) + 1, max_size=len(bounds) + draw(mostly(st.just(1), st.just(2)))))
        )
        return
    point.scale = draw(mostly(st.integers(-10, 20), st.integers(-12, 22)))
    point.zero_count = draw(counts)
    for side in (point.positive, point.negative):
        side.offset = draw(st.integers(-2000, 2000))
        side.bucket_counts.extend(draw(st.lists(counts, max_size=4)))


def _request(draw: st.DrawFn, signal: Signal) -> Any:
    request = REQUESTS[signal]()
    field = {Signal.TRACES: "spans", Signal.LOGS: "logs", Signal.METRICS: "metrics"}[signal]
    group = getattr(request, f"resource_{field}").add()
    group.resource.attributes.extend(draw(attributes))
    scoped = getattr(group, f"scope_{field}").add()
    scoped.scope.name = draw(texts)
    scoped.scope.attributes.extend(draw(attributes))
    return request


def transcode(signal: Signal, encoding: Encoding, body: bytes) -> Transcoded:
    return LANES[encoding].transcode(Request(signal, encoding, body, RECEIVED_NS))


def comparable(result: Transcoded) -> Any:
    """All but the samples of dead letters, which are what the sender wrote and so differ by encoding."""
    batch = result.batch
    dead = [letter._replace(sample=b"") for letter in batch.dead]
    rows = (batch.spans, batch.logs, batch.points, batch.runs, batch.processes, batch.feeds, dead)
    return rows, result.rejected, result.message, result.repaired


def assert_storable(result: Transcoded) -> None:
    """What every engine relies on: JSON that jsonb takes, ids of the right length, 64-bit numbers, no NUL."""
    batch = result.batch
    texts_of_json = [text for span in batch.spans for text in (span.attributes, span.events, span.links)]
    texts_of_json += [text for record in batch.logs for text in (record.attributes, record.body)]
    texts_of_json += [text for point in batch.points for text in (point.series.attributes, point.series.resource.attributes)]
    for text in filter(None, texts_of_json):
        text.encode()
        assert "\\u0000" not in text
        json.loads(text, parse_constant=pytest.fail)
    for span in batch.spans:
        assert (len(span.trace_id), len(span.span_id)) == (16, 8)
        assert 0 < span.start_ns < 2**63
        assert 0 <= span.duration_ns < 2**63
        assert "\0" not in span.name + span.status_message + span.trace_state + span.resource.site + span.resource.service
    for point in batch.points:
        assert 0 < point.time_ns < 2**63
        assert all(number is None or math.isfinite(number) for number in (point.value, point.sum, point.min, point.max))
        assert point.bounds is None or point.buckets is None or len(point.buckets) == len(point.bounds) + 1
    for run in batch.runs:
        assert all(not isinstance(value, int) or abs(value) < 2**63 for value in (run.deadline_ns, run.attempt, run.start_ns))
    assert len(batch.dead) == result.rejected


@FEW
@given(span_requests())
def test_lanes_agree_on_spans(request):
    _agree(Signal.TRACES, request)


@FEW
@given(log_requests())
def test_lanes_agree_on_logs(request):
    _agree(Signal.LOGS, request)


@FEW
@given(metric_requests())
def test_lanes_agree_on_metrics(request):
    _agree(Signal.METRICS, request)


def _agree(signal: Signal, request: Any) -> None:
    protobuf = transcode(signal, Encoding.PROTOBUF, request.SerializeToString())
    assert_storable(protobuf)
    assert comparable(protobuf) == comparable(transcode(signal, Encoding.JSON, as_json(request)))


@st.composite
def mutated(draw: st.DrawFn, encoding: Encoding) -> tuple[Signal, bytes]:
    """A good request with a few bytes changed, cut out or put in."""
    signal = draw(st.sampled_from(list(Signal)))
    request = GOOD[signal](2)
    body = bytearray(request.SerializeToString() if encoding is Encoding.PROTOBUF else as_json(request))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(body)))
        change = draw(st.sampled_from(["set", "cut", "insert", "end"]))
        if change == "set" and at < len(body):
            body[at] = draw(st.integers(0, 255))
        elif change == "cut":
            del body[at : at + draw(st.integers(1, 8))]
        elif change == "insert":
            body[at:at] = draw(st.binary(max_size=4))
        elif change == "end":
            del body[at:]
    return signal, bytes(body)


@pytest.mark.parametrize("encoding", list(LANES))
def test_mutated_requests_are_refused_or_give_rows_that_can_be_stored(encoding):
    @settings(FEW, max_examples=150)
    @given(mutated(encoding))
    def check(case):
        signal, body = case
        with contextlib.suppress(RequestRejected):
            assert_storable(transcode(signal, encoding, body))

    check()


@settings(FEW, max_examples=150)
@given(st.binary(max_size=200), st.sampled_from(list(Signal)), st.sampled_from(list(LANES)))
def test_any_bytes_are_refused_or_give_rows_that_can_be_stored(body, signal, encoding):
    with contextlib.suppress(RequestRejected):
        assert_storable(transcode(signal, encoding, body))


@pytest.mark.parametrize(
    ("file", "signal"), [("trace", "traces"), ("logs", "logs"), ("events", "logs"), ("metrics", "metrics")]
)
def test_the_examples_of_the_protocol_are_read_whole(shared_data, file, signal):
    body = (shared_data / "otlp" / f"{file}.json").read_bytes()
    result = transcode(Signal(signal), Encoding.JSON, body)
    assert_storable(result)
    assert result.rejected == result.repaired == 0
    assert result.batch.items == {"trace": 1, "logs": 1, "events": 1, "metrics": 4}[file]


def test_requests_do_not_disturb_each_other_in_one_lane():
    alone = transcode(Signal.TRACES, Encoding.PROTOBUF, spans(3).SerializeToString())
    transcode(Signal.LOGS, Encoding.PROTOBUF, GOOD[Signal.LOGS](3).SerializeToString())
    assert comparable(transcode(Signal.TRACES, Encoding.PROTOBUF, spans(3).SerializeToString())) == comparable(alone)
