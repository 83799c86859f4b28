"""A `Block` of plain Python, made from the batches of decoded requests: what the writer is tested with.

In: one Batch for each request. Out: a Block whose rows say the same, in COPY's binary format (PostgreSQL manual, COPY) and in
RowBinary, whichever is asked for.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

from wafermonitor.runs.merge import merge_all
from wafermonitor.runs.records import Batch
from wafermonitor.storage.clickhouse import rows as inserted
from wafermonitor.storage.protocol import Block, Numbers, Part
from wafermonitor.storage.timescale import rows as made

_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = struct.pack("!h", -1)
_NULL = struct.pack("!i", -1)
_EPOCH_2000_US = 946_684_800 * 1_000_000
_TEXT_OID, _INT8_OID, _FLOAT8_OID = 25, 20, 701
_TIMES = {"start_time", "received_time", "time", "observed_time"}
_INT2 = {"site_id", "start_ns", "time_ns", "observed_ns", "received_ns", "kind", "status", "severity", "end_rank"}
_INT4 = {"app_id", "scope_id", "resource_id", "series_id"}
_FLOAT8 = {"value", "sum", "min", "max", "expected_duration_s", "heartbeat_interval_s", "cpu_s"}
_FLOAT8 |= {"progress_ratio", "progress_completed", "progress_total"}
_ARRAYS = {
    "bounds": (_FLOAT8_OID, "!d"),
    "quantile_values": (_FLOAT8_OID, "!d"),
    "buckets": (_INT8_OID, "!q"),
    "lot_ids": (_TEXT_OID, ""),
    "substrate_ids": (_TEXT_OID, ""),
}
_TABLES: dict[str, tuple[tuple[str, ...], Callable[..., made.Row], str, str, str]] = {
    "span": (made.SPAN_COLUMNS, made.span_row, "spans", "start_time", "trace_id span_id start_time site_id start_ns"),
    "log_record": (made.LOG_COLUMNS, made.log_row, "logs", "time", "time digest"),
    "metric_point": (made.POINT_COLUMNS, made.point_row, "points", "time", "series_id time time_ns"),
}
_INSERTED: dict[str, tuple[str, Callable[[Any, int], bytes]]] = {
    "span": ("spans", inserted.span_row),
    "log_record": ("logs", inserted.log_row),
    "metric_point": ("points", inserted.point_row),
}
_NAMES: dict[str, tuple[str, Callable[[Any, int], bytes]]] = {
    "resource": ("_resources", inserted.resource_row),
    "scope": ("_scopes", inserted.scope_row),
    "metric_series": ("_series", inserted.series_row),
}


def stream(columns: Sequence[str], rows: Sequence[made.Row]) -> bytes:
    """A whole COPY BINARY stream; empty without rows."""
    if not rows:
        return b""
    parts = [_SIGNATURE]
    for row in rows:
        parts.append(struct.pack("!h", len(row)))
        parts += [_field(name, value) for name, value in zip(columns, row, strict=True)]
    return b"".join([*parts, _TRAILER])


def part(*batches: Batch) -> Part:
    """All of them as one part."""
    return Part(block(*batches), 0, len(batches))


def block(*batches: Batch) -> Block:
    """A block of these requests."""
    return _Block(batches)


class _Block:
    def __init__(self, batches: Sequence[Batch]) -> None:
        self._batches = batches
        items = [item for batch in batches for item in (*batch.spans, *batch.logs)]
        series = {point.series.key: point.series for batch in batches for point in batch.points}
        resources = {one.resource.key: one.resource for one in (*items, *series.values())}
        scopes = {one.scope.key: one.scope for one in (*items, *series.values())}
        others = [one for batch in batches for rows in (batch.runs, batch.processes, batch.feeds, batch.dead) for one in rows]
        self._resources, self._scopes, self._series = [*resources.values()], [*scopes.values()], [*series.values()]
        self.resources = [tuple(one) for one in resources.values()]
        self.scopes = [tuple(one) for one in scopes.values()]
        self.series = [
            (one.key, [*resources].index(one.resource.key), [*scopes].index(one.scope.key), *one[3:]) for one in series.values()
        ]
        self.sites = [*dict.fromkeys([*(one.site for one in resources.values()), *(one.site for one in others)])]
        self.timeless: list[tuple[int, bytes]] = []
        self.outcomes = [(batch.items, batch.items + 1, 0, "", 0, None) for batch in batches]

    def rows(self, table, first, last, numbers, oldest_us, newest_us):  # noqa: PLR0917 - as the protocol has it
        columns, row_of, field, time, key = _TABLES[table]
        places = [columns.index(name) for name in key.split()]
        unique: dict[Any, made.Row] = {}
        for batch in self._batches[first:last]:
            for record in getattr(batch, field):
                row = row_of(record, self._ids(numbers))
                unique.setdefault(tuple(row[place] for place in places), row)
        hot = [row for row in unique.values() if oldest_us <= row[columns.index(time)] < newest_us]
        late = [row for row in unique.values() if not oldest_us <= row[columns.index(time)] < newest_us]
        return stream(columns, hot), len(hot), stream(columns, late), len(late)

    def runs(self, first, last, numbers):
        runs = merge_all([run for batch in self._batches[first:last] for run in batch.runs])
        rows = [made.run_row(run, self._ids(numbers)) for run in runs]
        return stream(made.DELTA_COLUMNS, rows), len(rows)

    def row_binary(self, table, first, last, precedence):
        field, row_of = _INSERTED[table]
        batches = self._batches[first:last]
        return b"".join(row_of(record, precedence) for batch in batches for record in getattr(batch, field))

    def run_rows(self, first, last, call):
        runs = [run for batch in self._batches[first:last] for run in batch.runs]
        changes = {run.key: inserted.change_row(run, call) for run in runs}
        return b"".join(map(inserted.run_row, runs)), b"".join(changes.values())

    def name_rows(self, table, seen_s):
        field, row_of = _NAMES[table]
        return [(one.key, row_of(one, seen_s)) for one in getattr(self, field)]

    def processes(self, first, last):
        return [tuple(beat) for batch in self._batches[first:last] for beat in batch.processes]

    def feeds(self, first, last):
        return [tuple(beat) for batch in self._batches[first:last] for beat in batch.feeds]

    def dead(self, first, last):
        return [tuple(letter) for batch in self._batches[first:last] for letter in batch.dead]

    def apps(self, first, last):
        keys = [one[0] for one in self.resources]
        newest: dict[int, int] = {}
        for batch in self._batches[first:last]:
            signs = [(one.resource, one.received_ns) for one in (*batch.spans, *batch.logs)]
            signs += [(point.series.resource, point.received_ns) for point in batch.points]
            for resource, received_ns in signs:
                place = keys.index(resource.key)
                newest[place] = max(newest.get(place, received_ns), received_ns)
        return [*newest.items()]

    def _ids(self, numbers: Numbers) -> made.Ids:
        return made.Ids(
            sites=dict(zip(self.sites, numbers.sites, strict=True)),
            apps={(one[1], one[3]): number for one, number in zip(self.resources, numbers.apps, strict=True)},
            scopes={one[0]: number for one, number in zip(self.scopes, numbers.scopes, strict=True)},
            resources={one[0]: number for one, number in zip(self.resources, numbers.resources, strict=True)},
            series={one[0]: number for one, number in zip(self.series, numbers.series, strict=True)},
        )


def _field(name: str, value: Any) -> bytes:
    if value is None:
        return _NULL
    body = _array(*_ARRAYS[name], value) if name in _ARRAYS else _scalar(name, value)
    return struct.pack("!i", len(body)) + body


def _scalar(name: str, value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    if name == "inferred":
        return struct.pack("!?", value)
    if name in _TIMES:
        return struct.pack("!q", value - _EPOCH_2000_US)
    code = "!h" if name in _INT2 else "!i" if name in _INT4 else "!d" if name in _FLOAT8 else "!q"
    return struct.pack(code, value)


def _array(oid: int, code: str, values: Sequence[Any]) -> bytes:
    if not values:
        return struct.pack("!iii", 0, 0, oid)
    bodies = [struct.pack(code, value) if code else value.encode() for value in values]
    head = struct.pack("!iiiii", 1, 0, oid, len(values), 1)
    return head + b"".join(struct.pack("!i", len(body)) + body for body in bodies)
