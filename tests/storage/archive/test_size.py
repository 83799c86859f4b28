"""What a span costs in the archive, on the benchmarks' corpus with fresh values: P8 allows 55 bytes."""

from __future__ import annotations

import io

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
    """Spans of size M, every one with values of its own, at 20,000 spans a second."""
    lane, spans = python.Lane(), []
    for body in corpus.fresh(SPANS, BATCH, START, corpus.SECOND_NS // 20_000):
        request = Request(Signal.TRACES, Encoding.PROTOBUF, body, START + corpus.SECOND_NS)
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
