"""A row made into a request is decoded to the same row, digest and keys included."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from tests.receiver.dead_letters.letters import letter
from tests.receiver.otlp import GOOD, START_NS, last_item, metrics
from tests.receiver.test_lanes import FEW, RECEIVED_NS, log_requests, metric_requests, span_requests
from wafermonitor.receiver.dead_letters import retry, samples
from wafermonitor.receiver.dead_letters.rows import sample_of
from wafermonitor.receiver.transcode.protocol import Encoding, Request, Signal
from wafermonitor.receiver.transcode.python import Lane
from wafermonitor.runs.records import Batch

pytestmark = pytest.mark.slow


def decoded(signal: Signal, request: Any) -> Batch:
    return Lane().transcode(Request(signal, Encoding.PROTOBUF, request.SerializeToString(), RECEIVED_NS)).batch


def again(signal: Signal, row: Any) -> Any:
    """The row, made into a letter's sample and decoded."""
    sample = sample_of(row)
    assert sample is not None
    request = samples.request_of(letter(sample, signal.value, received_ns=RECEIVED_NS))
    done = retry.lanes()[request.encoding].transcode(request)
    assert (done.rejected, done.batch.items) == (0, 1)
    batch = done.batch
    return [*batch.spans, *batch.logs, *batch.points][0]


@FEW
@given(span_requests())
def test_spans_are_the_same_again(request):
    for row in decoded(Signal.TRACES, request).spans:
        assert again(Signal.TRACES, row) == row


@FEW
@given(log_requests())
def test_log_records_are_the_same_again(request):
    for row in decoded(Signal.LOGS, request).logs:
        assert again(Signal.LOGS, row) == row


@FEW
@given(metric_requests())
def test_points_are_the_same_again_where_a_request_can_make_them(request):
    for row in decoded(Signal.METRICS, request).points:
        if row.series.type == "exponential_histogram":
            assert sample_of(row) is None
        else:
            assert again(Signal.METRICS, row) == row


@pytest.mark.parametrize("kind", ["sum", "histogram", "summary"])
def test_each_kind_of_point_is_the_same_again(kind):
    request = metrics(0)
    metric = last_item(request)
    point = getattr(metric, kind).data_points.add(time_unix_nano=START_NS, start_time_unix_nano=START_NS - 1)
    if kind == "sum":
        metric.sum.is_monotonic, metric.sum.aggregation_temporality = True, 2
        point.as_int = 7
    elif kind == "histogram":
        point.count, point.sum, point.min = 3, 1.5, 0.25
        point.explicit_bounds.extend([1.0, 2.0])
        point.bucket_counts.extend([1, 2, 0])
    else:
        point.count, point.sum = 3, 1.5
        point.quantile_values.add(quantile=0.5, value=0.75)
    (row,) = decoded(Signal.METRICS, request).points
    assert again(Signal.METRICS, row) == row


def test_what_no_request_makes_has_no_sample():
    batch = decoded(Signal.LOGS, GOOD[Signal.LOGS](1))
    assert sample_of(batch.logs[0].resource) is None
