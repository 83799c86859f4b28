"""Is what was sent what is stored, field by field? One comparer for every fault.

In: the requests that were sent (`corpus.Sent`) and a database. Out: `differences()`: nothing, or the first few of what is
missing, there twice, there uncalled for, or different. Both sides become plain records by code of their own: nothing of the
receiver's or the store's is used.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg

from tests.flow.faults.corpus import Sent, decoded

HERE = Path(__file__).parent
SHOWN = 5
# Columns that are what OTLP said, without more.
SPAN = (
    "name", "kind", "status", "status_message", "trace_state", "flags", "dropped_attributes", "dropped_events", "dropped_links",
)  # fmt: skip
LOG = ("observed_ns", "trace_id", "severity", "severity_text", "event_name", "flags", "dropped_attributes")
POINT = ("start_ns", "unit", "type", "temporality", "monotonic", "value", "count", "sum", "min", "max", "flags")
Key = tuple[Any, ...]
Fields = dict[str, Any]
AWAY = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)


class Counts(NamedTuple):
    """How many of each."""

    spans: int
    logs: int
    points: int


def count_stored(dsn: str, service: str) -> Counts | None:
    """What the database holds of a service; None while it does not answer."""
    try:
        (row,) = rows("stored_count", dsn, service)
    except AWAY:
        return None
    return Counts(**row)


def count_sent(requests: Iterable[Sent]) -> Counts:
    """What was sent, each item as often as it was."""
    found = Counter(kind for request in requests for kind, _, _ in _items(request))
    return Counts(found["span"], found["log"], found["point"])


def differences(requests: Iterable[Sent], dsn: str, service: str) -> list[str]:
    """What of `requests` is not in the database exactly once and unchanged. Empty: sent == stored."""
    sent: dict[Key, Fields] = {}
    for request in requests:
        sent.update(((kind, *key), fields) for kind, key, fields in _items(request))
    stored: dict[Key, Fields] = {}
    times: Counter[Key] = Counter()
    for kind, table, read in (
        ("span", "spans", _stored_span),
        ("log", "logs", _stored_log),
        ("point", "points", _stored_point),
    ):
        for row in rows(f"stored_{table}", dsn, service):
            key, fields = read(row)
            stored[kind, *key] = fields
            times[kind, *key] += 1
    found = [*_first("lost", sent.keys() - stored.keys()), *_first("never sent", stored.keys() - sent.keys())]
    found += _first("there twice", (key for key, number in times.items() if number > 1))
    changed = [key for key in sent.keys() & stored.keys() if _text(sent[key]) != _text(stored[key])]
    found += [f"changed: {len(changed)}"] * bool(changed)
    found += [line for key in changed[:SHOWN] for line in _fields(key, sent[key], stored[key])]
    return found + _runs(sent, dsn, service)


def _first(what: str, keys: Iterable[Key]) -> list[str]:
    found = sorted(keys, key=repr)
    return [f"{what}: {len(found)}, such as {found[:SHOWN]}"] if found else []


def _fields(key: Key, sent: Fields, stored: Fields) -> Iterator[str]:
    for name in sent.keys() | stored.keys():
        if _text(sent.get(name)) != _text(stored.get(name)):
            yield f"  {key}: {name} was sent as {sent.get(name)!r} and is stored as {stored.get(name)!r}"


def _runs(sent: Mapping[Key, Fields], dsn: str, service: str) -> list[str]:
    """Every span with a job's name is a run, once, ended as the span did."""
    expected = Counter(
        (key[1], key[2], fields["attributes"]["wafer.job.name"], key[3], fields["end_ns"])
        for key, fields in sent.items()
        if key[0] == "span" and "wafer.job.name" in fields["attributes"]
    )
    found = rows("stored_runs", dsn, service)
    there = Counter((row["trace_id"], _hex(row["span_id"]), row["job"], row["start_ns"], row["end_ns"]) for row in found)
    return _first("runs lost", (expected - there).elements()) + _first("runs too many", (there - expected).elements())


def _text(value: Any) -> str:
    """Tells 5 from 5.0, and true from 1, as Python's equality does not."""
    return json.dumps(value, sort_keys=True)


def rows(name: str, dsn: str, service: str) -> list[asyncpg.Record]:
    """What `<name>.sql` of this folder answers for a service."""

    async def fetch() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(dsn, timeout=5)
        try:
            return list(await connection.fetch((HERE / f"{name}.sql").read_text(), service))
        finally:
            connection.terminate()

    return asyncio.run(fetch())


# What is stored.


def _stored_span(row: Any) -> tuple[Key, Fields]:
    span_id = _hex(row["span_id"])
    return (row["trace_id"], span_id, row["start_ns"]), {
        **{name: row[name] for name in SPAN},
        "parent": None if row["parent_span_id"] is None else _hex(row["parent_span_id"]),
        "end_ns": row["start_ns"] + row["duration_ns"],
        "attributes": json.loads(row["attributes"]),
        "events": json.loads(row["events"] or "[]"),
        "links": json.loads(row["links"] or "[]"),
        **_stored_owner(row),
    }


def _stored_log(row: Any) -> tuple[Key, Fields]:
    attributes = json.loads(row["attributes"])
    return (row["time_ns"], row["trace_id"], attributes.get("line.number")), {
        **{name: row[name] for name in LOG},
        "span_id": None if row["span_id"] is None else _hex(row["span_id"]),
        "body": None if row["body"] is None else json.loads(row["body"]),
        "attributes": attributes,
        **_stored_owner(row),
    }


def _stored_point(row: Any) -> tuple[Key, Fields]:
    attributes = json.loads(row["attributes"])
    listed = {name: list(row[name] or ()) for name in ("bounds", "buckets", "quantile_values")}
    owner = _stored_owner(row)
    key = (row["name"], owner["resource"].get("host.name"), _text(attributes), row["time_ns"])
    return key, {**{name: row[name] for name in POINT}, **listed, "attributes": attributes, **owner}


def _stored_owner(row: Any) -> Fields:
    return {
        "resource": json.loads(row["resource"]),
        "scope": [row["scope"], row["scope_version"], json.loads(row["scope_attributes"])],
    }


def _hex(number: int) -> str:
    return number.to_bytes(8, "big", signed=True).hex()


# What was sent.


def _items(request: Sent) -> Iterator[tuple[str, Key, Fields]]:
    message = decoded(request)
    if request.signal == "traces":
        for group in message.resource_spans:
            for scope in group.scope_spans:
                owner = _sent_owner(group, scope)
                yield from (("span", *_sent_span(span, owner)) for span in scope.spans)
    elif request.signal == "logs":
        for group in message.resource_logs:
            for scope in group.scope_logs:
                owner = _sent_owner(group, scope)
                yield from (("log", *_sent_log(record, owner)) for record in scope.log_records)
    else:
        for group in message.resource_metrics:
            for scope in group.scope_metrics:
                owner = _sent_owner(group, scope)
                for metric in scope.metrics:
                    yield from (("point", *found) for found in _sent_points(metric, owner))


def _sent_owner(group: Any, scope: Any) -> Fields:
    return {
        "resource": _plain(group.resource.attributes),
        "scope": [scope.scope.name, scope.scope.version, _plain(scope.scope.attributes)],
    }


def _sent_span(span: Any, owner: Fields) -> tuple[Key, Fields]:
    return (span.trace_id.hex(), span.span_id.hex(), span.start_time_unix_nano), {
        "name": span.name,
        "kind": span.kind,
        "status": span.status.code,
        "status_message": span.status.message,
        "trace_state": span.trace_state,
        "flags": span.flags,
        "dropped_attributes": span.dropped_attributes_count,
        "dropped_events": span.dropped_events_count,
        "dropped_links": span.dropped_links_count,
        "parent": span.parent_span_id.hex() or None,
        "end_ns": span.end_time_unix_nano,
        "attributes": _plain(span.attributes),
        "events": [
            {"time_ns": event.time_unix_nano, "name": event.name, "attributes": _plain(event.attributes)}
            | _where(dropped_attributes=event.dropped_attributes_count)
            for event in span.events
        ],
        "links": [
            {"trace_id": link.trace_id.hex(), "span_id": link.span_id.hex(), "attributes": _plain(link.attributes)}
            | _where(trace_state=link.trace_state, flags=link.flags, dropped_attributes=link.dropped_attributes_count)
            for link in span.links
        ],
        **owner,
    }


def _sent_log(record: Any, owner: Fields) -> tuple[Key, Fields]:
    attributes = _plain(record.attributes)
    trace_id = record.trace_id.hex() or None
    return (record.time_unix_nano, trace_id, attributes.get("line.number")), {
        "observed_ns": record.observed_time_unix_nano,
        "trace_id": trace_id,
        "span_id": record.span_id.hex() or None,
        "severity": record.severity_number,
        "severity_text": record.severity_text,
        "event_name": record.event_name,
        "flags": record.flags,
        "dropped_attributes": record.dropped_attributes_count,
        "body": _value(record.body),
        "attributes": attributes,
        **owner,
    }


def _sent_points(metric: Any, owner: Fields) -> Iterator[tuple[Key, Fields]]:
    kind = metric.WhichOneof("data")
    data = getattr(metric, kind)
    for point in data.data_points:
        attributes = _plain(point.attributes)
        numbers = dict.fromkeys(("value", "count", "sum", "min", "max")) | {"bounds": [], "buckets": [], "quantile_values": []}
        key = (metric.name, owner["resource"].get("host.name"), _text(attributes), point.time_unix_nano)
        yield (
            key,
            {
                "start_ns": point.start_time_unix_nano,
                "unit": metric.unit,
                "type": kind,
                "temporality": getattr(data, "aggregation_temporality", 0),
                "monotonic": getattr(data, "is_monotonic", False),
                "flags": point.flags,
                "attributes": attributes,
                **owner,
                **(numbers | _NUMBERS[kind](point)),
            },
        )


def _number(point: Any) -> Fields:
    return {"value": float(getattr(point, point.WhichOneof("value")))}


def _totals(point: Any) -> Fields:
    return {"count": point.count} | {
        name: getattr(point, name) if point.HasField(name) else None for name in ("sum", "min", "max")
    }


def _histogram(point: Any) -> Fields:
    return _totals(point) | {"bounds": list(point.explicit_bounds), "buckets": list(point.bucket_counts)}


def _exponential(point: Any) -> Fields:
    """Of scale 0 without a negative half: bucket i holds (2^i, 2^(i+1)], and nothing is above the last one."""
    assert point.scale == 0
    assert not point.negative.bucket_counts
    counts = list(point.positive.bucket_counts)
    bounds = [float(2 ** (point.positive.offset + index)) for index in range(len(counts) + 1)]
    return _totals(point) | {"bounds": bounds, "buckets": [point.zero_count, *counts, 0]}


def _summary(point: Any) -> Fields:
    pairs = point.quantile_values
    listed = {"bounds": [pair.quantile for pair in pairs], "quantile_values": [pair.value for pair in pairs]}
    return {"count": point.count, "sum": point.sum} | listed


_NUMBERS: dict[str, Callable[[Any], Fields]] = {
    "gauge": _number,
    "sum": _number,
    "histogram": _histogram,
    "exponential_histogram": _exponential,
    "summary": _summary,
}


def _where(**values: Any) -> Fields:
    """Those that are set: the store leaves the others out."""
    return {name: value for name, value in values.items() if value}


def _plain(attributes: Any) -> Fields:
    return {pair.key: _value(pair.value) for pair in attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    found = getattr(value, kind)
    if kind == "array_value":
        return [_value(item) for item in found.values]
    if kind == "kvlist_value":
        return _plain(found.values)
    return {"bytesValue": base64.b64encode(found).decode()} if kind == "bytes_value" else found
