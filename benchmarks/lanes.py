"""The native lane beside the Python lane: request bytes to rows that are ready for either database, one thread each.

In: a plan. Out: figures. Called by: `python -m benchmarks lanes`.

For PostgreSQL the Python lane is measured to its row tuples and run deltas; that the driver still has to encode them is not
counted. Its rows are then encoded here and compared with the native lane's, byte by byte. For ClickHouse both are measured to
all that the writer inserts, names too, and compared as well.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from benchmarks import corpus
from benchmarks.results import median, rounded, spread
from benchmarks.rounds import Case, Plan, VoidError
from wafermonitor.receiver.transcode import native, python
from wafermonitor.receiver.transcode.protocol import Encoding, Request, Signal
from wafermonitor.runs.merge import merge_all
from wafermonitor.runs.records import Batch
from wafermonitor.storage.clickhouse import groups
from wafermonitor.storage.protocol import Block, Numbers, Part, RowFormat
from wafermonitor.storage.timescale.rows import SPAN_COLUMNS, Ids, Row, run_row, span_row

BATCH = 512
CASES = [Case(f"{size}, runs {runs}", {"size": size, "runs": runs}) for size in corpus.SIZES for runs in corpus.RUNS]
FIRST = Case("M, runs 1 in 10", {"size": "M", "runs": "1 in 10"})
ALL_TIMES = (-(2**62), 2**62)
CALL = (2**64 - 1, 1_789_000_000, b"a call")
"""What a call of ClickHouse's writer adds: precedence, day of its names, its own name."""
_EPOCH_2000_US = 946_684_800 * 1_000_000
_INTEGERS = {
    "q": ("duration_ns", "span_id", "parent_span_id", "flags", "dropped_attributes", "dropped_events", "dropped_links"),
    "i": ("app_id", "scope_id", "resource_id"),
    "h": ("site_id", "start_ns", "received_ns", "kind", "status"),
}
_FORMATS = {name: struct.Struct(f">{code}") for code, names in _INTEGERS.items() for name in names}
_TIMES = ("start_time", "received_time")


class Contest(NamedTuple):
    """Both lanes at work for one database; what either has to do for the same requests."""

    database: str
    native: Callable[[], object]
    python: Callable[[], object]


def bench_lanes(plan: Plan) -> dict[str, Any]:
    """CPU of both lanes for the same requests."""
    lanes = {row_format: native.load(row_format) for row_format in RowFormat}
    copying, inserting = lanes[RowFormat.COPY_BINARY], lanes[RowFormat.ROW_BINARY]
    if copying is None or inserting is None:
        raise SystemExit("the native lane is not installed: see make setup")
    chosen = [FIRST] if plan.mode == "quick" else [FIRST, *(case for case in CASES if case.name != FIRST.name)]
    rows = []
    for case in chosen:
        requests = _requests(case)
        rows += [
            _measure(case, requests, contest, plan)
            for contest in (_copied(case, requests, copying), _inserted(case, requests, inserting))
        ]
    return {
        "title": "Native lane beside Python lane",
        "batch": BATCH,
        "native_to_python": rows[0]["native_to_python"],
        "native_to_python_range": rows[0]["native_to_python_range"],
        "native_spans_per_cpu_s": rows[0]["native_spans_per_cpu_s"],
        "python_spans_per_cpu_s": rows[0]["python_spans_per_cpu_s"],
        "rows": rows,
    }


def _measure(case: Case, requests: Sequence[Request], contest: Contest, plan: Plan) -> dict[str, Any]:
    spans = BATCH * len(requests)
    native_rates, python_rates = [], []
    for _ in range(max(3, plan.rounds)):
        native_rates.append(spans / _least_cpu_s(contest.native, 20))
        python_rates.append(spans / _least_cpu_s(contest.python, 3))
    times = [fast / slow for fast, slow in zip(native_rates, python_rates, strict=True)]
    return {
        "case": case.name,
        "database": contest.database,
        "native_spans_per_cpu_s": median(native_rates),
        "python_spans_per_cpu_s": median(python_rates),
        "native_to_python": median(times),
        "native_to_python_range": spread(times),
        "bytes_per_span": rounded(sum(len(request.body) for request in requests) / spans),
    }


def _copied(case: Case, requests: Sequence[Request], decode: native.Decode) -> Contest:
    """Rows for COPY, which agree."""
    ids, numbers = _numbered(decode(requests))
    if _fast(requests, decode, numbers) != b"".join(map(_encoded, _python(requests, ids)[0])):
        raise VoidError(f"{case.name}: the lanes do not agree about rows for PostgreSQL")
    return Contest("PostgreSQL", lambda: _fast(requests, decode, numbers), lambda: _python(requests, ids))


def _inserted(case: Case, requests: Sequence[Request], decode: native.Decode) -> Contest:
    """Rows to insert, which agree."""
    lane = python.Lane()

    def fast() -> list[groups.Group]:
        return [groups.gather([Part(decode([request]), 0, 1)], *CALL) for request in requests]

    def slow() -> list[groups.Group]:
        return [groups.gather([lane.transcode(request).batch], *CALL) for request in requests]

    for one, other in zip(fast(), slow(), strict=True):
        if (one.names, _rows(one)) != (other.names, _rows(other)):
            raise VoidError(f"{case.name}: the lanes do not agree about rows for ClickHouse")
    return Contest("ClickHouse", fast, slow)


def _rows(group: groups.Group) -> list[bytes]:
    return [*(b"".join(rows) for rows in group.facts.values()), b"".join(group.changes)]


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
