"""The native lane beside the Python lane: request bytes to rows that are ready to be copied, one thread each.

In: a plan. Out: figures. Called by: `python -m benchmarks lanes`.

The Python lane is measured to its row tuples and run deltas; that the driver still has to encode them is not counted. Its rows
are then encoded here and compared with the native lane's, byte by byte.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import corpus
from benchmarks.results import median, rounded, spread
from benchmarks.rounds import Case, Plan, VoidError
from wafermonitor.receiver.transcode import native, python
from wafermonitor.receiver.transcode.protocol import Encoding, Request, Signal
from wafermonitor.runs.merge import merge_all
from wafermonitor.runs.records import Batch
from wafermonitor.storage.protocol import Block, Numbers
from wafermonitor.storage.timescale.rows import SPAN_COLUMNS, Ids, Row, run_row, span_row

BATCH = 512
CASES = [Case(f"{size}, runs {runs}", {"size": size, "runs": runs}) for size in corpus.SIZES for runs in corpus.RUNS]
FIRST = Case("M, runs 1 in 10", {"size": "M", "runs": "1 in 10"})
ALL_TIMES = (-(2**62), 2**62)
_EPOCH_2000_US = 946_684_800 * 1_000_000
_INTEGERS = {
    "q": ("duration_ns", "span_id", "parent_span_id", "flags", "dropped_attributes", "dropped_events", "dropped_links"),
    "i": ("app_id", "scope_id", "resource_id"),
    "h": ("site_id", "start_ns", "received_ns", "kind", "status"),
}
_FORMATS = {name: struct.Struct(f">{code}") for code, names in _INTEGERS.items() for name in names}
_TIMES = ("start_time", "received_time")


def bench_lanes(plan: Plan) -> dict[str, Any]:
    """CPU of both lanes for the same requests."""
    decode = native.load()
    if decode is None:
        raise SystemExit("the native lane is not installed: see make setup")
    chosen = [FIRST] if plan.mode == "quick" else [FIRST, *(case for case in CASES if case.name != FIRST.name)]
    rows = [_measure(case, decode, plan) for case in chosen]
    return {
        "title": "Native lane beside Python lane",
        "batch": BATCH,
        "native_to_python": rows[0]["native_to_python"],
        "native_to_python_range": rows[0]["native_to_python_range"],
        "native_spans_per_cpu_s": rows[0]["native_spans_per_cpu_s"],
        "python_spans_per_cpu_s": rows[0]["python_spans_per_cpu_s"],
        "rows": rows,
    }


def _measure(case: Case, decode: native.Decode, plan: Plan) -> dict[str, Any]:
    requests = _requests(case)
    block = decode(requests)
    ids, numbers = _numbered(block)
    slow = _python(requests, ids)
    if _fast(requests, decode, numbers) != b"".join(map(_encoded, slow[0])):
        raise VoidError(f"{case.name}: the lanes do not agree")
    spans = BATCH * len(requests)
    native_rates, python_rates = [], []
    for _ in range(max(3, plan.rounds)):
        native_rates.append(spans / _least_cpu_s(lambda: _fast(requests, decode, numbers), 20))
        python_rates.append(spans / _least_cpu_s(lambda: _python(requests, ids), 3))
    times = [fast / slow for fast, slow in zip(native_rates, python_rates, strict=True)]
    return {
        "case": case.name,
        "native_spans_per_cpu_s": median(native_rates),
        "python_spans_per_cpu_s": median(python_rates),
        "native_to_python": median(times),
        "native_to_python_range": spread(times),
        "bytes_per_span": rounded(sum(len(request.body) for request in requests) / spans),
    }


def _requests(case: Case) -> list[Request]:
    sheet = corpus.sheet(batch=BATCH, **case.settings)
    filled = sheet.fill(corpus.stream_start(1), time.time_ns())
    return [Request(Signal.TRACES, Encoding.PROTOBUF, filled[start:end], time.time_ns()) for start, end in sheet.bounds]


def _least_cpu_s(work: Callable[[], object], times: int) -> float:
    """CPU of this thread for one call: the least of several."""
    spent = []
    for _ in range(times):
        began_s = time.thread_time()
        work()
        spent.append(time.thread_time() - began_s)
    return min(spent)


def _numbered(block: Block) -> tuple[Ids, Numbers]:
    """The same made-up ids of dictionary rows for both lanes."""
    sites = {name: place + 1 for place, name in enumerate(block.sites)}
    apps = {(one[1], one[3]): 100 + place for place, one in enumerate(block.resources)}
    resources = {one[0]: 200 + place for place, one in enumerate(block.resources)}
    scopes = {one[0]: 300 + place for place, one in enumerate(block.scopes)}
    numbers = Numbers(
        list(sites.values()),
        [apps[one[1], one[3]] for one in block.resources],
        list(resources.values()),
        list(scopes.values()),
        [],
    )
    return Ids(sites, apps, scopes, resources, {}), numbers


def _fast(requests: Sequence[Request], decode: native.Decode, numbers: Numbers) -> bytes:
    """The rows of the native lane, without head and trailer of each stream."""
    streams = []
    for request in requests:
        block = decode([request])
        hot, _, late, late_rows = block.rows("span", 0, 1, numbers, *ALL_TIMES)
        block.runs(0, 1, numbers)
        if late_rows or late:
            raise VoidError("rows outside of all times")
        streams.append(hot[19:-2])
    return b"".join(streams)


def _python(requests: Sequence[Request], ids: Ids) -> tuple[list[Row], list[Row]]:
    """The rows and run deltas of the Python lane."""
    lane = python.Lane()
    rows, deltas = [], []
    for request in requests:
        batch: Batch = lane.transcode(request).batch
        rows += [span_row(span, ids) for span in batch.spans]
        deltas += [run_row(run, ids) for run in merge_all(batch.runs)]
    return rows, deltas


def _encoded(row: Row) -> bytes:
    """One row as COPY BINARY has it."""
    parts = [struct.pack(">h", len(row))]
    for name, value in zip(SPAN_COLUMNS, row, strict=True):
        data = _field(name, value)
        parts.append(struct.pack(">i", -1) if data is None else struct.pack(">i", len(data)) + data)
    return b"".join(parts)


def _field(name: str, value: Any) -> bytes | None:
    if value is None:
        return None
    if name in _TIMES:
        return struct.pack(">q", value - _EPOCH_2000_US)
    if name in _FORMATS:
        return _FORMATS[name].pack(value)
    return value if isinstance(value, bytes) else str(value).encode()
