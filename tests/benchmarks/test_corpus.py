"""Requests whose ids and times were written over in place are still what they were, with ids never sent before."""

import json

import numpy as np
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from benchmarks import corpus
from wafermonitor.semconv import attributes as names

pytestmark = pytest.mark.slow

NOW_NS = 1_790_000_000_000_000_000


def decoded(sheet, filled):
    for start, end in sheet.bounds:
        request = trace_service_pb2.ExportTraceServiceRequest.FromString(filled[start:end])
        yield from request.resource_spans[0].scope_spans[0].spans


def only(number):
    return np.array([number], dtype=np.uint64)


def test_mix_is_undone():
    numbers = np.arange(1, 100_000, dtype=np.uint64) * np.uint64(7_919_000_003)
    assert (corpus.unmix(corpus.mix(numbers)) == numbers).all()


@pytest.mark.parametrize("batch", [1, 10, 64, 512])
def test_ids_and_times_are_those_of_the_spans_asked_for(batch):
    sheet = corpus.sheet("M", batch, "1 in 10")
    first = corpus.stream_start(3)
    sheet.fill(corpus.stream_start(2), NOW_NS - 5)
    number = first
    for number, span in enumerate(decoded(sheet, sheet.fill(first, NOW_NS)), first):
        root = number - number % 10
        assert span.span_id == corpus.span_ids(only(number)).tobytes()
        assert span.trace_id == corpus.trace_ids(only(root)).tobytes()
        assert span.parent_span_id == (b"" if number == root else corpus.span_ids(only(root)).tobytes())
        assert 0 <= span.start_time_unix_nano - NOW_NS < 100_000_000
        assert span.end_time_unix_nano - span.start_time_unix_nano == 900_000_000
        assert span.start_time_unix_nano < span.events[0].time_unix_nano < span.end_time_unix_nano
        is_run = any(pair.key == names.WAFER_JOB_NAME for pair in span.attributes)
        assert is_run == (number == root)
    assert number == first + sheet.spans - 1
    assert sheet.spans == batch * len(sheet.bounds)


def test_json_says_the_same_as_protobuf():
    first = corpus.stream_start(1)
    binary, text = corpus.sheet("L", 64, "1 in 1"), corpus.sheet("L", 64, "1 in 1", encoding="json")
    spans = decoded(binary, binary.fill(first, NOW_NS))
    filled = text.fill(first, NOW_NS)
    for start, end in text.bounds:
        for shown in json.loads(filled[start:end])["resourceSpans"][0]["scopeSpans"][0]["spans"]:
            span = next(spans)
            assert shown["spanId"] == span.span_id.hex()
            assert shown.get("parentSpanId", "") == span.parent_span_id.hex()
            assert int(shown["endTimeUnixNano"]) == span.end_time_unix_nano
            assert [int(event["timeUnixNano"]) for event in shown["events"]] == [one.time_unix_nano for one in span.events]
    assert next(spans, None) is None


@pytest.mark.parametrize("size", ["S", "M", "L"])
def test_spans_weigh_what_the_size_says(size):
    sheet = corpus.sheet(size, 512, "1 in 10")
    assert sheet.bounds[-1][1] / sheet.spans == pytest.approx(corpus.SIZES[size].about_bytes, rel=0.05)


def test_no_runs_means_none():
    sheet = corpus.sheet("S", 10, "none")
    spans = list(decoded(sheet, sheet.fill(corpus.stream_start(1), NOW_NS)))
    assert not any(pair.key == names.WAFER_JOB_NAME for span in spans for pair in span.attributes)
