"""What a row of each signal looks like in Parquet: records to columns and back.

In: records of `runs.records`, or a table that was read. Out: Arrow tables, records. Called by: `files`.

A file describes itself: every row names its resource, scope and series in full, in columns of few values that cost next to
nothing. Ids are raw bytes; times are nanoseconds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any, NamedTuple, TypeAlias

import msgspec
import pyarrow as pa

from wafermonitor.runs.records import LogRecord, MetricPoint, Progress, Resource, Run, Scope, Series, Span
from wafermonitor.storage.archive.protocol import Signal
from wafermonitor.storage.archive.shapes import Shape, shape_of

Record: TypeAlias = Span | LogRecord | MetricPoint | Run
TRACE_ID, SPAN_ID, DIGEST = pa.binary(16), pa.binary(8), pa.binary(32)
TIME = pa.timestamp("ns", "UTC")
WORD, WHOLE, NUMBER, FLAG = pa.string(), pa.int64(), pa.float64(), pa.bool_()
_NAMES = 10_000
"""Resources, scopes and series that are made once for all their rows; each process has its own, so that old ones must go."""


class Column(NamedTuple):
    """One column of fixed meaning: its name, Arrow's type, and where a record has it."""

    name: str
    type: Any
    of: Callable[[Any], Any]


class Table(NamedTuple):
    """One signal's rows. `key` makes a row the same row, `time` names the column of its day, `json` fields get shapes."""

    columns: tuple[Column, ...]
    json: tuple[str, ...]
    time: str
    sorted_by: str
    key: Callable[[Any], tuple[Any, ...]]
    key_columns: tuple[str, ...]
    at_ns: Callable[[Any], int]
    make: Callable[[dict[str, Any]], Any]


def _columns(prefix: str, fields: dict[str, Any]) -> list[Column]:
    return [Column(name, kind, attrgetter(f"{prefix}{name}")) for name, kind in fields.items()]


def _resource_columns(prefix: str) -> list[Column]:
    return [
        Column("service", WORD, attrgetter(f"{prefix}resource.service")),
        Column("service_version", WORD, attrgetter(f"{prefix}resource.service_version")),
        Column("feed", WORD, attrgetter(f"{prefix}resource.feed")),
        Column("process_key", TRACE_ID, attrgetter(f"{prefix}resource.process_key")),
        Column("resource_key", DIGEST, attrgetter(f"{prefix}resource.key")),
        Column("resource_attributes", WORD, attrgetter(f"{prefix}resource.attributes")),
        Column("scope_key", DIGEST, attrgetter(f"{prefix}scope.key")),
        Column("scope_name", WORD, attrgetter(f"{prefix}scope.name")),
        Column("scope_version", WORD, attrgetter(f"{prefix}scope.version")),
        Column("scope_attributes", WORD, attrgetter(f"{prefix}scope.attributes")),
    ]


@lru_cache(_NAMES)
def _resource(*fields: Any) -> Resource:
    return Resource(*fields)


@lru_cache(_NAMES)
def _scope(*fields: Any) -> Scope:
    return Scope(*fields)


@lru_cache(_NAMES)
def _series(*fields: Any) -> Series:
    return Series(*fields)


def _resource_of(row: dict[str, Any]) -> Resource:
    return _resource(
        row["resource_key"],
        row["site"],
        row["feed"],
        row["service"],
        row["service_version"],
        row["process_key"],
        row["resource_attributes"],
    )


def _scope_of(row: dict[str, Any]) -> Scope:
    return _scope(row["scope_key"], row["scope_name"], row["scope_version"], row["scope_attributes"])


def _span_of(row: dict[str, Any]) -> Span:
    return Span(
        _resource_of(row),
        _scope_of(row),
        row["trace_id"],
        row["span_id"],
        row["parent_span_id"],
        row["name"],
        row["kind"],
        row["start_time"],
        row["duration_ns"],
        row["status"],
        row["status_message"],
        row["attributes"],
        row["events"],
        row["links"],
        row["dropped_attributes"],
        row["dropped_events"],
        row["dropped_links"],
        row["flags"],
        row["trace_state"],
        row["received_time"],
    )


def _log_of(row: dict[str, Any]) -> LogRecord:
    return LogRecord(
        _resource_of(row),
        _scope_of(row),
        row["time"],
        row["observed_time"],
        row["severity"],
        row["severity_text"],
        row["event_name"],
        row["body"],
        row["attributes"],
        row["dropped_attributes"],
        row["flags"],
        row["trace_id"],
        row["span_id"],
        row["digest"],
        row["received_time"],
    )


def _point_of(row: dict[str, Any]) -> MetricPoint:
    series = _series(
        row["series_key"],
        _resource_of(row),
        _scope_of(row),
        row["name"],
        row["unit"],
        row["type"],
        row["temporality"],
        row["monotonic"],
        row["series_attributes"],
    )
    lists = {name: None if row[name] is None else tuple(row[name]) for name in ("bounds", "buckets", "quantile_values")}
    return MetricPoint(
        series,
        row["time"],
        row["start_time"],
        row["value"],
        row["count"],
        row["sum"],
        row["min"],
        row["max"],
        lists["bounds"],
        lists["buckets"],
        lists["quantile_values"],
        row["flags"],
        row["received_time"],
    )


_RUN_TYPES = {
    "trace_id": TRACE_ID,
    "span_id": SPAN_ID,
    "parent_span_id": SPAN_ID,
    "process_key": TRACE_ID,
    "lot_ids": pa.list_(WORD),
    "substrate_ids": pa.list_(WORD),
    "start_ns": TIME,
    "end_ns": TIME,
    "last_sign_ns": TIME,
    "received_ns": TIME,
    "nominal_time_ns": TIME,
    "deadline_ns": TIME,
    "process_beat_ns": TIME,
    "attempt": WHOLE,
    "final_fields": WHOLE,
    "end_rank": WHOLE,
    "memory_bytes": WHOLE,
    "inferred": FLAG,
    "expected_duration_s": NUMBER,
    "heartbeat_interval_s": NUMBER,
    "cpu_s": NUMBER,
    "process_interval_s": NUMBER,
}
_PROGRESS_TYPES = (TIME, NUMBER, NUMBER, NUMBER, WORD, WORD, WORD)
_RUN_NAMES = tuple(field.name for field in dataclasses.fields(Run) if field.name not in {"site", "progress", "attributes"})


def _progress(place: int) -> Callable[[Run], Any]:
    return lambda run: None if run.progress is None else run.progress[place]


def _run_of(row: dict[str, Any]) -> Run:
    progress = tuple(row[f"progress_{name}"] for name in Progress._fields)
    fields = {name: row[name] for name in _RUN_NAMES}
    for name in ("lot_ids", "substrate_ids"):
        fields[name] = None if row[name] is None else tuple(row[name])
    return Run(
        site=row["site"],
        attributes=row["attributes"],
        progress=None if progress[0] is None else Progress(*progress),
        **fields,
    )


TABLES: dict[Signal, Table] = {
    Signal.SPANS: Table(
        columns=(
            *_columns("", {"trace_id": TRACE_ID, "span_id": SPAN_ID, "parent_span_id": SPAN_ID}),
            Column("start_time", TIME, attrgetter("start_ns")),
            *_columns("", {"duration_ns": WHOLE, "name": WORD, "kind": WHOLE, "status": WHOLE, "status_message": WORD}),
            *_columns("", dict.fromkeys(("dropped_attributes", "dropped_events", "dropped_links", "flags"), WHOLE)),
            Column("trace_state", WORD, attrgetter("trace_state")),
            Column("received_time", TIME, attrgetter("received_ns")),
            *_resource_columns(""),
        ),
        json=("attributes", "events", "links"),
        time="start_time",
        sorted_by="trace_id",
        key=attrgetter("trace_id", "span_id", "start_ns"),
        key_columns=("trace_id", "span_id", "start_time"),
        at_ns=attrgetter("start_ns"),
        make=_span_of,
    ),
    Signal.LOGS: Table(
        columns=(
            *_columns("", {"trace_id": TRACE_ID, "span_id": SPAN_ID}),
            Column("time", TIME, attrgetter("time_ns")),
            Column("observed_time", TIME, attrgetter("observed_ns")),
            *_columns("", {"severity": WHOLE, "severity_text": WORD, "event_name": WORD}),
            *_columns("", {"dropped_attributes": WHOLE, "flags": WHOLE, "digest": DIGEST}),
            Column("received_time", TIME, attrgetter("received_ns")),
            *_resource_columns(""),
        ),
        json=("body", "attributes"),
        time="time",
        sorted_by="trace_id",
        key=attrgetter("trace_id", "time_ns", "digest"),
        key_columns=("trace_id", "time", "digest"),
        at_ns=attrgetter("time_ns"),
        make=_log_of,
    ),
    Signal.METRICS: Table(
        columns=(
            Column("series_key", DIGEST, attrgetter("series.key")),
            Column("time", TIME, attrgetter("time_ns")),
            Column("start_time", TIME, attrgetter("start_ns")),
            *_columns("", {"value": NUMBER, "count": WHOLE, "sum": NUMBER, "min": NUMBER, "max": NUMBER}),
            *_columns("", {"bounds": pa.list_(NUMBER), "buckets": pa.list_(WHOLE), "quantile_values": pa.list_(NUMBER)}),
            Column("flags", WHOLE, attrgetter("flags")),
            Column("received_time", TIME, attrgetter("received_ns")),
            *_columns("series.", {"name": WORD, "unit": WORD, "type": WORD, "temporality": WHOLE, "monotonic": FLAG}),
            Column("series_attributes", WORD, attrgetter("series.attributes")),
            *_resource_columns("series."),
        ),
        json=(),
        time="time",
        sorted_by="series_key",
        key=attrgetter("series.key", "time_ns"),
        key_columns=("series_key", "time"),
        at_ns=attrgetter("time_ns"),
        make=_point_of,
    ),
    Signal.RUNS: Table(
        columns=(
            *(Column(name, _RUN_TYPES.get(name, WORD), attrgetter(name)) for name in _RUN_NAMES),
            *(
                Column(f"progress_{name}", kind, _progress(place))
                for place, (name, kind) in enumerate(zip(Progress._fields, _PROGRESS_TYPES, strict=True))
            ),
        ),
        json=("attributes",),
        time="start_ns",
        sorted_by="trace_id",
        key=attrgetter("trace_id", "span_id"),
        key_columns=("trace_id", "span_id"),
        at_ns=attrgetter("start_ns"),
        make=_run_of,
    ),
}
"""By signal. Rows of a file stand in the order of the key."""


class Layout(NamedTuple):
    """The columns of one file: those of its signal, and the shapes that its JSON fields were given."""

    signal: Signal
    shapes: tuple[Shape, ...]

    @property
    def schema(self) -> Any:
        """Arrow's, with this layout in its metadata, which Parquet keeps."""
        fields = [pa.field(column.name, column.type) for column in TABLES[self.signal].columns]
        for shape in self.shapes:
            fields += shape.schema()
        return pa.schema(fields, metadata={b"wafer": msgspec.json.encode({"version": 1, "shapes": self.shapes})})

    def names(self, json: Sequence[str]) -> list[str]:
        """The columns that hold these JSON fields, beside the fixed ones."""
        names = [column.name for column in TABLES[self.signal].columns]
        return names + [field.name for shape in self.shapes if shape.field in json for field in shape.schema()]

    def table(self, records: Sequence[Record]) -> Any:
        """Records → one Arrow table."""
        table = TABLES[self.signal]
        arrays = [_array([column.of(record) for record in records], column.type) for column in table.columns]
        times = [table.at_ns(record) for record in records]
        for shape in self.shapes:
            texts = [getattr(record, shape.field) for record in records]
            for values, field in zip(shape.columns(texts, times), shape.schema(), strict=True):
                arrays.append(pa.array(values, type=field.type))
        return pa.Table.from_arrays(arrays, schema=self.schema)

    def records(self, table: Any, site: str) -> list[Any]:
        """One Arrow table → records. A record's order is that of the table's rows."""
        signal = TABLES[self.signal]
        values = {column.name: _values(table.column(column.name), column.type) for column in signal.columns}
        for shape in self.shapes:
            columns = [table.column(field.name).to_pylist() for field in shape.schema()]
            values[shape.field] = shape.texts(columns, values[signal.time])
        names = list(values)
        return [signal.make({"site": site, **dict(zip(names, row, strict=True))}) for row in zip(*values.values(), strict=True)]


def layout_for(signal: Signal, records: Sequence[Record]) -> Layout:
    """The layout that suits these records, a sample of the file's."""
    return Layout(
        signal, tuple(shape_of(field, (getattr(record, field) for record in records)) for field in TABLES[signal].json)
    )


def layout_of(signal: Signal, schema: Any) -> Layout:
    """The layout that a file was written with."""

    class Written(msgspec.Struct):
        version: int
        shapes: tuple[Shape, ...]

    return Layout(signal, msgspec.json.decode(schema.metadata[b"wafer"], type=Written).shapes)


def _array(values: list[Any], kind: Any) -> Any:
    return pa.array(values, type=pa.int64()).cast(TIME) if kind is TIME else pa.array(values, type=kind)


def _values(column: Any, kind: Any) -> list[Any]:
    return list(column.cast(pa.int64()).to_pylist() if kind is TIME else column.to_pylist())
