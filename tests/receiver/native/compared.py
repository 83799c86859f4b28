"""Both protobuf lanes on the same requests: what the Python lane's records become must be what the native lane writes.

The streams for PostgreSQL are taken apart here, column by column; the names' numbers are made up, the same for both. What is
inserted into ClickHouse is compared as bytes.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from wafermonitor.receiver.errors import RequestRejected
from wafermonitor.receiver.transcode import native
from wafermonitor.receiver.transcode import python as python_lane
from wafermonitor.receiver.transcode.protocol import Encoding, Request, Signal, Transcoded
from wafermonitor.runs.merge import merge_all
from wafermonitor.runs.records import Batch, Run
from wafermonitor.storage.clickhouse import groups
from wafermonitor.storage.clickhouse import rows as inserted
from wafermonitor.storage.protocol import Block, Numbers, Part, RowFormat
from wafermonitor.storage.timescale import rows

SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
POSTGRES_EPOCH_US = 946_684_800_000_000
TABLES = {
    "span": (rows.SPAN_COLUMNS, rows.span_row, "spans", "start_time", "trace_id span_id start_time site_id start_ns"),
    "log_record": (rows.LOG_COLUMNS, rows.log_row, "logs", "time", "time digest"),
    "metric_point": (rows.POINT_COLUMNS, rows.point_row, "points", "time", "series_id time time_ns"),
}
_ELEMENTS: dict[int, Callable[[bytes], Any]] = {
    20: lambda raw: struct.unpack(">q", raw)[0],
    25: bytes.decode,
    701: lambda raw: struct.unpack(">d", raw)[0],
}
_lane = python_lane.Lane()


def integer(raw: bytes) -> int:
    return int.from_bytes(raw, signed=True)


def time_us(raw: bytes) -> int:
    return integer(raw) + POSTGRES_EPOCH_US


def double(raw: bytes) -> float:
    return _ELEMENTS[701](raw)


def array(raw: bytes) -> tuple[Any, ...]:
    dimensions, nulls, kind = struct.unpack_from(">iiI", raw)
    assert nulls == 0
    if dimensions == 0:
        assert len(raw) == 12
        return ()
    number, lowest = struct.unpack_from(">ii", raw, 12)
    assert (dimensions, lowest) == (1, 1)
    items, at = [], 20
    for _ in range(number):
        size = struct.unpack_from(">i", raw, at)[0]
        items.append(_ELEMENTS[kind](raw[at + 4 : at + 4 + size]))
        at += 4 + size
    assert at == len(raw)
    return tuple(items)


TIMES = frozenset({"start_time", "time", "observed_time", "received_time"})
IDS = frozenset({"trace_id", "digest", "process_key"})
ARRAYS = frozenset({"bounds", "buckets", "quantile_values", "lot_ids", "substrate_ids"})
DOUBLES = frozenset({"value", "sum", "min", "max", "progress_ratio", "progress_completed", "progress_total"})
DOUBLES |= {"expected_duration_s", "heartbeat_interval_s", "cpu_s"}
TEXTS = frozenset(
    {"name", "status_message", "trace_state", "attributes", "events", "links", "severity_text", "event_name", "body"}
)
TEXTS |= {"job", "run_id", "parent_run_id", "feed_id", "service", "service_version", "trigger", "owner", "equipment", "recipe"}
TEXTS |= {"product", "result", "error_type", "progress_unit", "progress_stage", "progress_message"}


def reader_of(column: str) -> Callable[[bytes], Any]:
    """How a column's value is read; the types are those of the migrations."""
    kinds = {TIMES: time_us, IDS: bytes, ARRAYS: array, DOUBLES: double, TEXTS: bytes.decode}
    return next((read for columns, read in kinds.items() if column in columns), integer)


SIZES = {
    "site_id": 2,
    "start_ns": 2,
    "received_ns": 2,
    "observed_ns": 2,
    "time_ns": 2,
    "kind": 2,
    "status": 2,
    "severity": 2,
    "end_rank": 2,
}
SIZES |= {
    "app_id": 4,
    "scope_id": 4,
    "resource_id": 4,
    "series_id": 4,
    "inferred": 1,
    "trace_id": 16,
    "digest": 32,
    "process_key": 16,
}


def taken_apart(stream: bytes, columns: Sequence[str]) -> list[tuple[Any, ...]]:
    """The rows of a COPY BINARY stream."""
    if not stream:
        return []
    assert stream.startswith(SIGNATURE)
    readers = [reader_of(column) for column in columns]
    found, at = [], len(SIGNATURE)
    while True:
        (number,) = struct.unpack_from(">h", stream, at)
        at += 2
        if number == -1:
            assert at == len(stream)
            return found
        assert number == len(columns)
        row = []
        for column, read in zip(columns, readers, strict=True):
            (size,) = struct.unpack_from(">i", stream, at)
            at += 4
            if size < 0:
                row.append(None)
                continue
            assert read not in (integer, time_us, double) or size == SIZES.get(column, 8), (column, size)
            row.append(read(stream[at : at + size]))
            at += size
        found.append(tuple(row))


def exact(value: Any) -> Any:
    """Tells -0.0 from 0.0, and True from 1."""
    if isinstance(value, float):
        return struct.pack(">d", value)
    return tuple(map(exact, value)) if isinstance(value, tuple | list) else value


def python_outcome(request: Request) -> Transcoded | str:
    try:
        return _lane.transcode(request)
    except RequestRejected as error:
        return str(error)


def shown(outcome: Transcoded | str) -> tuple[Any, ...]:
    """As `Block.outcomes` has it."""
    if isinstance(outcome, str):
        return (0, 0, 0, "", 0, outcome)
    batch = outcome.batch
    number = batch.items + len(batch.runs) + len(batch.processes) + len(batch.feeds) + len(batch.dead)
    return (batch.items, number, outcome.rejected, outcome.message, outcome.repaired, None)


def numbers_of(block: Block) -> Numbers:
    """Numbers that tell everything apart; services of one site share theirs."""
    apps: dict[tuple[str, str], int] = {}
    for resource in block.resources:
        apps.setdefault((resource[1], resource[3]), 1000 + len(apps))
    return Numbers(
        sites=[10 + index for index in range(len(block.sites))],
        apps=[apps[resource[1], resource[3]] for resource in block.resources],
        resources=[2000 + index for index in range(len(block.resources))],
        scopes=[300_000 + index for index in range(len(block.scopes))],
        series=[4_000_000 + index for index in range(len(block.series))],
    )


def ids_of(block: Block, numbers: Numbers) -> rows.Ids:
    return rows.Ids(
        sites=dict(zip(block.sites, numbers.sites, strict=True)),
        apps={(resource[1], resource[3]): app for resource, app in zip(block.resources, numbers.apps, strict=True)},
        scopes={scope[0]: number for scope, number in zip(block.scopes, numbers.scopes, strict=True)},
        resources={resource[0]: number for resource, number in zip(block.resources, numbers.resources, strict=True)},
        series={series[0]: number for series, number in zip(block.series, numbers.series, strict=True)},
    )


def delta(run: Run, ids: rows.Ids) -> tuple[Any, ...]:
    """A run as a row of deltas, with what was taken apart of an array."""
    row = rows.run_row(run, ids)
    return tuple(tuple(value) if isinstance(value, list) else value for value in row)


def assert_agree(
    requests: Sequence[Request], decode: Callable[[Sequence[Request]], Block], parts: Iterable[tuple[int, int]] = ()
) -> list[Batch]:
    """Compare everything about `requests`, whole and in `parts`; returns what the Python lane made of them."""
    assert all(request.encoding is Encoding.PROTOBUF for request in requests)
    outcomes = [python_outcome(request) for request in requests]
    block = decode(requests)
    assert block.outcomes == [shown(outcome) for outcome in outcomes]
    timeless = [() if isinstance(outcome, str) else outcome.timeless for outcome in outcomes]
    assert block.timeless == [(number, digest) for number, digests in enumerate(timeless) for digest in digests]
    batches = [Batch() if isinstance(outcome, str) else outcome.batch for outcome in outcomes]
    _compare_names(block, batches)
    other = inserting()(requests)
    for name in ("outcomes", "timeless", "sites", "resources", "scopes", "series"):
        assert getattr(other, name) == getattr(block, name), name
    for first, last in [(0, len(requests)), *parts]:
        _compare_part(block, batches, first, last)
        _compare_inserted(other, batches, first, last)
    return batches


@functools.cache
def inserting() -> native.Decode:
    """The native lane as it is beside a ClickHouse store."""
    found = native.load(RowFormat.ROW_BINARY)
    assert found is not None
    return found


def _compare_names(block: Block, batches: Sequence[Batch]) -> None:
    series = {point.series.key: point.series for batch in batches for point in batch.points}
    items = [item for batch in batches for item in (*batch.spans, *batch.logs)] + list(series.values())
    resources, scopes = {item.resource for item in items}, {item.scope for item in items}
    others = [record for batch in batches for part in (batch.runs, batch.processes, batch.feeds, batch.dead) for record in part]
    assert sorted(block.sites) == sorted({resource.site for resource in resources} | {record.site for record in others})
    assert sorted(block.resources) == sorted(map(tuple, resources))
    assert sorted(block.scopes) == sorted(map(tuple, scopes))
    named = [(key, block.resources[resource][0], block.scopes[scope][0], *rest) for key, resource, scope, *rest in block.series]
    assert sorted(named) == sorted((one.key, one.resource.key, one.scope.key, *one[3:]) for one in series.values())


def _compare_part(block: Block, batches: Sequence[Batch], first: int, last: int) -> None:
    batches = batches[first:last]
    numbers = numbers_of(block)
    ids = ids_of(block, numbers)
    for table, (columns, row_of, field, time, key) in TABLES.items():
        expected: dict[Any, tuple[Any, ...]] = {}
        for batch in batches:
            for record in getattr(batch, field):
                row = row_of(record, ids)
                expected.setdefault(tuple(row[columns.index(name)] for name in key.split()), row)
        times = sorted(row[columns.index(time)] for row in expected.values())
        oldest, newest = (times[len(times) // 4], times[len(times) * 3 // 4]) if times else (0, 0)
        hot, hot_rows, late, late_rows = block.rows(table, first, last, numbers, oldest, newest)
        for stream, number, wanted in ((hot, hot_rows, True), (late, late_rows, False)):
            rows_found = taken_apart(stream, columns)
            rows_wanted = [row for row in expected.values() if (oldest <= row[columns.index(time)] < newest) is wanted]
            assert number == len(rows_found)
            _same_rows(rows_found, rows_wanted, columns)
    stream, number = block.runs(first, last, numbers)
    deltas = taken_apart(stream, rows.DELTA_COLUMNS)
    assert number == len(deltas)
    runs = merge_all([run for batch in batches for run in batch.runs])
    _same_rows(deltas, [delta(run, ids) for run in runs], rows.DELTA_COLUMNS)
    for name in ("processes", "feeds", "dead"):
        assert getattr(block, name)(first, last) == [tuple(record) for batch in batches for record in getattr(batch, name)]
    assert block.apps(first, last) == _apps(batches, ids)


def _compare_inserted(block: Block, batches: Sequence[Batch], first: int, last: int) -> None:
    """What the writer of ClickHouse makes of either lane, in any order where the table's own order decides."""
    precedence, seen_s, call = 2**64 - 1 - first, 1_789_000_000, b"a call"
    made = groups.gather([Part(block, first, last)], precedence, seen_s, call)
    wanted = groups.gather(batches[first:last], precedence, seen_s, call)
    for table in (inserted.SPANS, inserted.LOGS, inserted.POINTS, inserted.RUNS):
        assert b"".join(made.facts[table]) == b"".join(wanted.facts[table]), table.name
    for table in (inserted.PROCESSES, inserted.FEEDS):
        assert made.facts[table] == wanted.facts[table], table.name
    assert sorted(made.facts[inserted.APPS]) == sorted(wanted.facts[inserted.APPS])
    assert (b"".join(made.changes), made.letters) == (b"".join(wanted.changes), wanted.letters)
    assert made.names.keys() >= wanted.names.keys()
    if last - first == len(batches):
        assert made.names == wanted.names


def _same_rows(found: list[tuple[Any, ...]], wanted: list[tuple[Any, ...]], columns: Sequence[str]) -> None:
    if exact(found) == exact(wanted):
        return
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert dict(zip(columns, exact(one), strict=True)) == dict(zip(columns, exact(other), strict=True))


def _apps(batches: Sequence[Batch], ids: rows.Ids) -> list[tuple[int, int]]:
    newest: dict[int, int] = {}
    for batch in batches:
        for item in (*batch.spans, *batch.logs, *batch.points):
            resource = item.series.resource if hasattr(item, "series") else item.resource
            place = ids.resources[resource.key] - 2000
            newest[place] = max(newest.get(place, 0), item.received_ns)
    return sorted(newest.items())


def request(signal: Signal, body: bytes, received_ns: int) -> Request:
    return Request(signal, Encoding.PROTOBUF, body, received_ns)
