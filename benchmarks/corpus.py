"""Spans to send: encoded once from a seed; before each send only ids and times are written over, in place.

In: a size, spans per request, how many spans are runs, protobuf or JSON. Out: a `Sheet` whose `fill` gives requests with ids
that were never sent before. Called by: `generator`, `ceilings`, `lanes`, `probe`, `p08_at_rest`.

Span number n belongs to trace n // 10, whose root is the span with n % 10 == 0. Ids are a bijection of the number (`mix`), so
they look random to an index and to a compressor, and `unmix` tells from a stored id which span it was.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.common.v1 import common_pb2

from wafermonitor.instrumentation.otlp_json import request_from_proto
from wafermonitor.semconv import attributes as names

Numbers: TypeAlias = NDArray[np.uint64]
Octets: TypeAlias = NDArray[np.uint8]

SEED = 20_260
TRACE_SPANS = 10
STREAM_BITS = 40
"""A stream is a run of the generator: numbers of two streams never meet."""
SHEET_SPANS = 2_000
SEARCHED_SPANS = 100_000
SECOND_NS = 1_000_000_000
_EPOCH_2000_US = 946_684_800 * 1_000_000
_GOLDEN, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_WIDE = 2**64
_TRACE_SALT = (0x5851F42D4C957F2D, 0x14057B7EF767814F)


class Size(NamedTuple):
    """What one span carries; `about_bytes` is what it comes to in protobuf, resource included, at 512 per request."""

    attributes: int
    resource_attributes: int
    events: int
    about_bytes: int


SIZES = {"S": Size(4, 4, 0, 250), "M": Size(16, 8, 1, 780), "L": Size(27, 12, 2, 1_300)}
RUNS = {"none": 0, "1 in 10": 10, "1 in 1": 1}
"""Every how many spans one is a run: has `wafer.job.name`."""


def mix(numbers: Numbers) -> Numbers:
    """SplitMix64: a bijection of 64 bits that looks random."""
    mixed = numbers * np.uint64(_GOLDEN)
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(_FIRST)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(_SECOND)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def unmix(mixed: Numbers) -> Numbers:
    """The way back of `mix`."""
    back: Numbers = mixed ^ (mixed >> np.uint64(31)) ^ (mixed >> np.uint64(62))
    back *= np.uint64(pow(_SECOND, -1, _WIDE))
    back ^= (back >> np.uint64(27)) ^ (back >> np.uint64(54))
    back *= np.uint64(pow(_FIRST, -1, _WIDE))
    back ^= (back >> np.uint64(30)) ^ (back >> np.uint64(60))
    back *= np.uint64(pow(_GOLDEN, -1, _WIDE))
    return back


def trace_ids(numbers: Numbers) -> Octets:
    """16 bytes for each span number; equal inside a trace."""
    traces: Numbers = numbers // np.uint64(TRACE_SPANS)
    halves = [mix(traces ^ np.uint64(salt)) for salt in _TRACE_SALT]
    return np.stack(halves, axis=1).astype(">u8").view(np.uint8)


def span_ids(numbers: Numbers) -> Octets:
    """8 bytes for each span number."""
    return mix(numbers).astype(">u8").view(np.uint8).reshape(-1, 8)


def roots(numbers: Numbers) -> Numbers:
    """The number of the root of each span's trace."""
    found: Numbers = numbers - numbers % np.uint64(TRACE_SPANS)
    return found


def stream_start(stream: int) -> int:
    """The first span number of a stream; a multiple of ten, never zero."""
    return ((stream << STREAM_BITS) // TRACE_SPANS + 1) * TRACE_SPANS


class Slots(NamedTuple):
    """Where in the encoded bytes the ids and times of each span stand, and how they are written there.

    Offsets of absent fields (the parent of a root, the event of a span without one) are -1.
    """

    trace: NDArray[np.int64]
    span: NDArray[np.int64]
    parent: NDArray[np.int64]
    times: tuple[NDArray[np.int64], ...]
    delays_ns: tuple[NDArray[np.int64], ...]
    write_id: Callable[[Octets], Octets]
    write_time: Callable[[NDArray[np.int64]], Octets]


class Sheet:
    """Encoded requests, `bounds` saying where each begins and ends; a whole number of traces."""

    def __init__(self, encoded: bytes, bounds: Sequence[tuple[int, int]], slots: Slots) -> None:
        self.bounds = list(bounds)
        self.spans = len(slots.span)
        self._slots = slots
        self._buffer = np.frombuffer(bytearray(encoded), dtype=np.uint8)
        self._has_parent = slots.parent >= 0
        self._has_time = [offsets >= 0 for offsets in slots.times]
        sample = slots.write_id(np.zeros((1, 8), dtype=np.uint8)).shape[1]
        wide = slots.write_time(np.array([SECOND_NS], dtype=np.int64)).shape[1]
        places = [
            _places(slots.trace, 2 * sample),
            _places(slots.span, sample),
            _places(slots.parent[self._has_parent], sample),
            *(_places(offsets[has], wide) for offsets, has in zip(slots.times, self._has_time, strict=True)),
        ]
        self._index = np.concatenate(places)

    def fill(self, first: int, at_ns: int) -> bytes:
        """The sheet with the ids of spans first … first + spans − 1, which began about `at_ns`."""
        slots = self._slots
        numbers = np.arange(first, first + self.spans, dtype=np.uint64)
        parents = span_ids(roots(numbers)[self._has_parent])
        values = [slots.write_id(ids).ravel() for ids in (trace_ids(numbers), span_ids(numbers), parents)]
        for delays, has in zip(slots.delays_ns, self._has_time, strict=True):
            values.append(slots.write_time(delays[has] + at_ns).ravel())
        self._buffer[self._index] = np.concatenate(values)
        return self._buffer.tobytes()


def sheet(
    size: str,
    batch: int,
    runs: str,
    *,
    encoding: str = "protobuf",
    head: Callable[[int], bytes] = lambda _length: b"",
    gap_ns: int = 1_000,
    searched: bool = False,
) -> Sheet:
    """A sheet of requests with `batch` spans each; `head(length of the body)` is put before each.

    A span begins `gap_ns` after the one before. `searched`: many more spans before their values repeat, and runs of forty jobs
    with results, for a store that is searched.
    """
    step = TRACE_SPANS // math.gcd(TRACE_SPANS, batch)
    requests = step * max(1, round((SEARCHED_SPANS if searched else SHEET_SPANS) / batch / step))
    draw = random.Random(SEED)
    parts: list[bytes] = []
    bounds: list[tuple[int, int]] = []
    found: list[list[int]] = []
    position = 0
    for number in range(requests):
        message, marks = _request(draw, SIZES[size], range(number * batch, (number + 1) * batch), RUNS[runs], searched=searched)
        body = _JSON.encode(message) if encoding == "json" else message.SerializeToString()
        start = head(len(body))
        codec = _JSON if encoding == "json" else _PROTOBUF
        found += codec.find(body, marks, position + len(start))
        parts += [start, body]
        bounds.append((position, position + len(start) + len(body)))
        position = bounds[-1][1]
    columns = [np.array(column, dtype=np.int64) for column in zip(*found, strict=True)]
    delays = np.arange(len(found), dtype=np.int64) * gap_ns
    codec = _JSON if encoding == "json" else _PROTOBUF
    slots = Slots(
        columns[0],
        columns[1],
        columns[2],
        times=tuple(columns[3:]),
        delays_ns=tuple(delays + extra_ns for extra_ns in (0, 900_000_000, *range(100_000_000, 100_000_000 * 3, 100_000_000))),
        write_id=codec.write_id,
        write_time=codec.write_time,
    )
    return Sheet(b"".join(parts), bounds, slots)


def fresh(count: int, batch: int, at_ns: int, gap_ns: int) -> Iterator[bytes]:
    """Requests of size M, `count` spans in all, no two spans alike: for what is compressed.

    Encoded when they are asked for, 0.1 ms for each span. A span begins `gap_ns` after the one before, the first at `at_ns`.
    """
    draw = random.Random(SEED)
    for first in range(0, count, batch):
        message, _ = _request(draw, SIZES["M"], range(first, first + batch), RUNS["1 in 10"])
        numbers = np.arange(first, first + batch, dtype=np.uint64) + np.uint64(TRACE_SPANS)
        spans = message.resource_spans[0].scope_spans[0].spans
        for place, (span, trace, own, root) in enumerate(
            zip(spans, trace_ids(numbers), span_ids(numbers), span_ids(roots(numbers)), strict=True), first
        ):
            span.trace_id, span.span_id = trace.tobytes(), own.tobytes()
            span.parent_span_id = root.tobytes() if span.parent_span_id else b""
            span.start_time_unix_nano = at_ns + place * gap_ns
            span.end_time_unix_nano = span.start_time_unix_nano + 900_000_000
            span.events[0].time_unix_nano = span.start_time_unix_nano + 100_000_000
        yield message.SerializeToString()


def copy_sheet(stream: bytes, rows: int) -> Sheet:
    """A sheet of COPY BINARY streams of `rows` rows each.

    `stream` holds stored spans; its first columns are trace_id, start_time, duration, span_id, parent_span_id, received_time.
    """
    head, stored = _copied(stream)
    stored.sort(key=lambda row: row[0])
    step = TRACE_SPANS // math.gcd(TRACE_SPANS, rows)
    parts, bounds, found, position = [], [], [], 0
    if len(stored) < step * rows:
        raise ValueError(f"{len(stored)} stored spans are too few for {step} streams of {rows}")
    for number in range(step):
        start = position
        parts.append(head)
        position += len(head)
        for _, row, offsets in stored[number * rows : (number + 1) * rows]:
            found.append([offset if offset < 0 else offset + position for offset in offsets])
            parts.append(row)
            position += len(row)
        parts.append(b"\xff\xff")
        position += 2
        bounds.append((start, position))
    trace, start_time, span, parent, received = (np.array(column, dtype=np.int64) for column in zip(*found, strict=True))
    delays = np.arange(len(found), dtype=np.int64) * 1_000
    slots = Slots(trace, span, parent, (start_time, received), (delays, delays + SECOND_NS), lambda ids: ids, _postgres_time)
    return Sheet(b"".join(parts), bounds, slots)


def _places(offsets: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    return (offsets[:, None] + np.arange(width, dtype=np.int64)).ravel()


def _postgres_time(times_ns: NDArray[np.int64]) -> Octets:
    return (times_ns // 1_000 - _EPOCH_2000_US).astype(">i8").view(np.uint8).reshape(-1, 8)


def _copied(stream: bytes) -> tuple[bytes, list[tuple[int, bytes, list[int]]]]:
    """Head and rows (number of the span, bytes, offsets of the five patched columns) of a COPY BINARY stream."""
    head_bytes = 19 + int.from_bytes(stream[15:19], "big")
    rows, position = [], head_bytes
    while (fields := int.from_bytes(stream[position : position + 2], "big", signed=True)) >= 0:
        start, offsets = position, []
        position += 2
        for _ in range(fields):
            length = int.from_bytes(stream[position : position + 4], "big", signed=True)
            position += 4
            offsets.append(-1 if length < 0 else position - start)
            position += max(length, 0)
        row = stream[start:position]
        span = np.frombuffer(row, dtype=">u8", count=1, offset=offsets[3]).astype(np.uint64)
        rows.append((int(unmix(span)[0]), row, [offsets[place] for place in (0, 1, 3, 4, 5)]))
    return stream[:head_bytes], rows


class _Marks(NamedTuple):
    """The ids and times that a span was encoded with, by which its slots are found again."""

    trace: bytes
    span: bytes
    parent: bytes | None
    times: tuple[int, ...]


class _Codec(NamedTuple):
    """How ids and times look in one encoding."""

    encode: Callable[[Message], bytes]
    id_text: Callable[[bytes], bytes]
    time_text: Callable[[int], bytes]
    write_id: Callable[[Octets], Octets]
    write_time: Callable[[NDArray[np.int64]], Octets]

    def find(self, body: bytes, spans: Sequence[_Marks], base: int) -> list[list[int]]:
        """Offsets of every span's slots, `base` added: trace, span, parent, start, end, first and second event."""
        found, after = [], 0
        for marks in spans:
            wanted = [self.id_text(marks.trace), self.id_text(marks.span)]
            wanted.append(b"" if marks.parent is None else self.id_text(marks.parent))
            wanted += [self.time_text(time_ns) for time_ns in marks.times]
            wanted += [b""] * (7 - len(wanted))
            places = [body.index(text, after) if text else -1 for text in wanted]
            after = max(places)
            found.append([place if place < 0 else place + base for place in places])
        return found


_HEX = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)


def _hex(ids: Octets) -> Octets:
    return np.stack([_HEX[ids >> 4], _HEX[ids & 15]], axis=2).reshape(len(ids), -1)


def _digits(times_ns: NDArray[np.int64]) -> Octets:
    return times_ns.astype("S19").view(np.uint8).reshape(-1, 19)


_PROTOBUF = _Codec(
    encode=lambda message: message.SerializeToString(),
    id_text=lambda one: one,
    time_text=lambda time_ns: time_ns.to_bytes(8, "little"),
    write_id=lambda ids: ids,
    write_time=lambda times_ns: times_ns.astype("<i8").view(np.uint8).reshape(-1, 8),
)
_JSON = _Codec(
    encode=lambda message: json.dumps(request_from_proto(message), separators=(",", ":")).encode(),
    id_text=lambda one: one.hex().encode(),
    time_text=lambda time_ns: str(time_ns).encode(),
    write_id=_hex,
    write_time=_digits,
)


def _request(
    draw: random.Random, size: Size, positions: range, run_every: int, *, searched: bool = False
) -> tuple[trace_service_pb2.ExportTraceServiceRequest, list[_Marks]]:
    """One request; `positions` are the spans' places in the sheet."""
    request = trace_service_pb2.ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.attributes.extend(pairs(list(resource().items())[: size.resource_attributes]))
    scoped = group.scope_spans.add()
    scoped.scope.name = "benchmarks"
    marks = []
    for position in positions:
        is_root = position % TRACE_SPANS == 0
        made = _Marks(
            trace=draw.randbytes(16),
            span=draw.randbytes(8),
            parent=None if is_root else draw.randbytes(8),
            times=tuple(draw.randrange(10**18, 2 * 10**18) for _ in range(2 + size.events)),
        )
        is_run = run_every > 0 and position % run_every == 0
        span = scoped.spans.add(
            trace_id=made.trace,
            span_id=made.span,
            parent_span_id=made.parent or b"",
            name="yield_analysis.cp1.whole_lot"
            if is_run
            else f"yield_analysis.step_{position % TRACE_SPANS}.merge_die_results",
            kind=1,
            start_time_unix_nano=made.times[0],
            end_time_unix_nano=made.times[1],
        )
        attributes = _attributes(draw, is_run=is_run)[: size.attributes]
        if searched and is_run:
            attributes = [
                (names.WAFER_JOB_NAME, f"yield_analysis.cp1.{draw.randrange(40):02}"),
                *attributes[1:],
                *_ending(draw),
            ]
        span.attributes.extend(pairs(attributes))
        for time_ns in made.times[2:]:
            event = span.events.add(time_unix_nano=time_ns, name="threshold.checked")
            event.attributes.extend(pairs([("limit.name", "edge_exclusion_mm"), ("limit.value", draw.random())]))
        marks.append(made)
    return request, marks


def resource() -> dict[str, Any]:
    """The attributes of the one program that sends, of which requests carry the first few."""
    return {
        names.WAFER_SITE_ID: "fab-1",
        names.SERVICE_NAME: "yield-analysis",
        names.SERVICE_VERSION: "2.14.0",
        names.HOST_NAME: "etl-17.fab-1.example",
        names.PROCESS_PID: 48_213,
        names.SERVICE_INSTANCE_ID: "5f0c4a52-93c1-4d2b-8f55-0c8f1f0f3f27",
        names.SERVICE_NAMESPACE: "engineering",
        names.DEPLOYMENT_ENVIRONMENT_NAME: "production",
        names.WAFER_AREA_NAME: "test",
        names.PROCESS_RUNTIME_NAME: "cpython",
        names.PROCESS_RUNTIME_VERSION: "3.12.4",
        names.PROCESS_EXECUTABLE_NAME: "python3",
    }


def _attributes(draw: random.Random, *, is_run: bool) -> list[tuple[str, Any]]:
    """Twenty-seven attributes of one span, of which small spans carry the first few: 20 tools, 200 recipes, 5,000 lots."""
    lot = draw.randrange(5_000)
    recipe = draw.randrange(200)
    return [
        (names.WAFER_JOB_NAME, "yield_analysis.cp1.parametric")
        if is_run
        else ("step.name", f"bin_map_{draw.randrange(12)}.edge_ring.parametric"),
        (names.WAFER_EQUIPMENT_ID, f"PRB-{draw.randrange(20):02}.fab-1.test"),
        (names.WAFER_LOT_IDS, f"LOT{lot:05}"),
        ("rows.read", draw.randrange(2_000_000)),
        (names.WAFER_SUBSTRATE_IDS, f"LOT{lot:05}.{draw.randrange(25) + 1:02}"),
        (names.WAFER_RECIPE_NAME, f"R{recipe:03}_CP1"),
        (names.WAFER_PRODUCT_ID, f"DEV{recipe % 37:02}A"),
        (names.WAFER_JOB_TRIGGER, "schedule"),
        (names.WAFER_JOB_ATTEMPT, 1),
        ("rows.written", draw.randrange(2_000_000)),
        ("test.temperature", 25.0 + draw.randrange(1_200) / 10),
        ("yield.ratio", draw.random()),
        ("probe.card.id", f"PC-{draw.randrange(400):04}"),
        ("db.query.summary", f"SELECT die_result, limits WHERE lot AND wafer AND pass = {draw.randrange(9)}"),
        ("cache.hit", draw.random() < 0.5),
        (
            "note",
            f"median {draw.random() * 4:.6f} V, sigma {draw.random():.6f} V, {draw.randrange(2_000)} of 2000 dies kept",
        ),
        ("db.system.name", "oracle"),
        ("input.path", f"/data/cp1/{lot:05}/wafer_{draw.randrange(25) + 1:02}.stdf.gz"),
        ("input.bytes", draw.randrange(40_000_000)),
        ("operator.shift", "night"),
        ("output.path", f"/data/yield/cp1/dev{recipe % 37:02}a/{lot:05}/binned/map_{draw.randrange(25) + 1:02}.parquet"),
        ("limits.version", f"2026.{draw.randrange(52):02}"),
        ("wafer.param.vdd", 1.05 + draw.random()),
        ("wafer.param.idd", draw.random() / 100),
        ("bin.hard", draw.randrange(16)),
        ("bin.soft", draw.randrange(400)),
        ("tester.program", f"cp1_dev{recipe % 37:02}a_rev{draw.randrange(9)}_multisite_16_at_speed.tp"),
    ]


def _ending(draw: random.Random) -> list[tuple[str, Any]]:
    """How a run ends: one in fifty badly."""
    bad = (names.WAFER_JOB_RESULT_FAILURE, names.WAFER_JOB_RESULT_ERROR, names.WAFER_JOB_RESULT_TIMEOUT)
    result = draw.choice(bad) if draw.random() < 0.02 else names.WAFER_JOB_RESULT_SUCCESS
    return [(names.WAFER_JOB_RESULT, result)]


def pairs(attributes: Sequence[tuple[str, Any]]) -> list[common_pb2.KeyValue]:
    """As OTLP has them."""
    return [common_pb2.KeyValue(key=key, value=_value(value)) for key, value in attributes]


def _value(value: Any) -> common_pb2.AnyValue:
    if isinstance(value, bool):
        return common_pb2.AnyValue(bool_value=value)
    if isinstance(value, int):
        return common_pb2.AnyValue(int_value=value)
    if isinstance(value, float):
        return common_pb2.AnyValue(double_value=value)
    return common_pb2.AnyValue(string_value=value)
