"""What a span costs in the archive, on the benchmarks' corpus with fresh values: P8 allows 55 bytes."""

from __future__ import annotations

import io
import random

import numpy as np
import pyarrow as pa
import pytest

from benchmarks import corpus
from wafermonitor.receiver.transcode import python
from wafermonitor.receiver.transcode.protocol import Encoding, Request, Signal
from wafermonitor.storage.archive import files
from wafermonitor.storage.archive.protocol import Signal as Archived

pytestmark = pytest.mark.slow
SPANS, BATCH = 20_000, 500
START = 1_790_000_000 * corpus.SECOND_NS


def fresh_spans():
    """Spans of size M, every one with values of its own, one request after the other at 20,000 spans a second."""
    draw, lane, spans = random.Random(corpus.SEED), python.Lane(), []
    for first in range(0, SPANS, BATCH):
        message, _ = corpus._request(draw, corpus.SIZES["M"], range(first, first + BATCH), 10)
        numbers = np.arange(first, first + BATCH, dtype=np.uint64) + np.uint64(10)
        ids = zip(corpus.trace_ids(numbers), corpus.span_ids(numbers), corpus.span_ids(corpus.roots(numbers)), strict=True)
        at_ns = START + first * corpus.SECOND_NS // 20_000
        for place, (span, (trace, own, root)) in enumerate(
            zip(message.resource_spans[0].scope_spans[0].spans, ids, strict=True)
        ):
            span.trace_id, span.span_id = trace.tobytes(), own.tobytes()
            span.parent_span_id = root.tobytes() if span.parent_span_id else b""
            span.start_time_unix_nano = at_ns + place * 1_000
            span.end_time_unix_nano = span.start_time_unix_nano + 900_000_000
            span.events[0].time_unix_nano = span.start_time_unix_nano + 100_000_000
        request = Request(Signal.TRACES, Encoding.PROTOBUF, message.SerializeToString(), at_ns + corpus.SECOND_NS)
        spans += lane.transcode(request).batch.spans
    return sorted(spans, key=lambda one: (one.trace_id, one.span_id))


def test_p08_a_span_takes_at_most_55_bytes_and_comes_back_as_it_was():
    spans, sink = fresh_spans(), io.BytesIO()
    writer = files.Writer(sink, Archived.SPANS)
    for first in range(0, SPANS, 4_096):
        writer.write(spans[first : first + 4_096])
    written = writer.close()
    # A small file has its footer to carry: that of the benchmark's hundred thousand weighs a fifth of this one's.
    assert len(sink.getvalue()) / SPANS <= 55
    with files.Opened(pa.BufferReader(sink.getvalue()), Archived.SPANS, "fab-1") as opened:
        found = [one for batch in opened.records() for one in batch]
    assert found == spans
    assert files.Sum().plus(Archived.SPANS, found) == written
