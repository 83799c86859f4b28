"""What one transaction stores: the rows of a group by table, without the doubles among them.

In: batches of records and parts of blocks, the ids of their names, the days that have partitions. Out: `Group`.
Called by: `writer`, in a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

from wafermonitor.runs.merge import greatest, merge_all
from wafermonitor.runs.records import Batch, DeadLetter, FeedBeat, ProcessBeat, Resource
from wafermonitor.storage.protocol import Part
from wafermonitor.storage.timescale.rows import (
    DELTA_COLUMNS,
    LOG_COLUMNS,
    POINT_COLUMNS,
    SPAN_COLUMNS,
    Ids,
    Row,
    log_row,
    numbers_of,
    point_row,
    run_row,
    span_row,
)

T = TypeVar("T")
DELTAS = "run_delta"
"""The session's table that runs are copied to."""


class Copy(NamedTuple):
    """Rows of one table as tuples, or as a COPY BINARY stream; `key` names the columns of the table's unique index."""

    table: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    rows: bytes | list[Row]


class Group(NamedTuple):
    """The rows of a group. `upserts`: statement and rows, in the order in which they are written. `deltas`: rows of `runs`."""

    copies: list[Copy]
    runs: list[Copy]
    deltas: int
    upserts: list[tuple[str, list[Row]]]


class _Table(NamedTuple):
    """Where one kind of row goes; those with a time outside the prepared days go to `late`."""

    hot: str
    late: str
    columns: tuple[str, ...]
    time: str
    key: tuple[str, ...]


_SPANS = _Table("span", "span_late", SPAN_COLUMNS, "start_time", ("trace_id", "span_id", "start_time", "site_id", "start_ns"))
_LOGS = _Table("log_record", "log_late", LOG_COLUMNS, "time", ("time", "digest"))
_POINTS = _Table("metric_point", "metric_late", POINT_COLUMNS, "time", ("series_id", "time", "time_ns"))


def gather(group: Sequence[Batch | Part], ids: Ids, oldest_us: int, newest_us: int) -> Group:
    """Everything that `group` holds. ValueError for a value that no row can have."""
    batches = [item for item in group if isinstance(item, Batch)]
    parts = [item for item in group if isinstance(item, Part)]
    copies: list[Copy] = []
    for table, rows in (
        (_SPANS, [span_row(span, ids) for batch in batches for span in batch.spans]),
        (_LOGS, [log_row(record, ids) for batch in batches for record in batch.logs]),
        (_POINTS, [point_row(point, ids) for batch in batches for point in batch.points]),
    ):
        copies += _split(table, rows, oldest_us, newest_us)
    runs = [run_row(run, ids) for run in merge_all([run for batch in batches for run in batch.runs])]
    deltas = [Copy(DELTAS, DELTA_COLUMNS, (), runs)] if runs else []
    count = len(runs)
    for part in parts:
        numbers = numbers_of(part.block, ids)
        for table in (_SPANS, _LOGS, _POINTS):
            hot, hot_rows, late, late_rows = part.block.rows(table.hot, part.first, part.last, numbers, oldest_us, newest_us)
            copies += [_copy(table, table.hot, hot)] if hot_rows else []
            copies += [_copy(table, table.late, late)] if late_rows else []
        stream, number = part.block.runs(part.first, part.last, numbers)
        deltas += [Copy(DELTAS, DELTA_COLUMNS, (), stream)] if number else []
        count += number
    return Group(copies, deltas, count, _upserts(batches, parts, ids))


def _split(table: _Table, rows: Sequence[Row], oldest_us: int, newest_us: int) -> list[Copy]:
    places = [table.columns.index(name) for name in table.key]
    time = table.columns.index(table.time)
    unique: dict[Row, Row] = {}
    for row in rows:
        unique.setdefault(tuple([row[place] for place in places]), row)
    hot: list[Row] = []
    late: list[Row] = []
    for row in unique.values():
        (hot if oldest_us <= row[time] < newest_us else late).append(row)
    return [_copy(table, name, part) for name, part in ((table.hot, hot), (table.late, late)) if part]


def _copy(table: _Table, name: str, rows: bytes | list[Row]) -> Copy:
    return Copy(name, table.columns, table.key, rows)


def _upserts(batches: Sequence[Batch], parts: Sequence[Part], ids: Ids) -> list[tuple[str, list[Row]]]:
    processes = [beat for batch in batches for beat in batch.processes]
    feeds = [beat for batch in batches for beat in batch.feeds]
    dead = [letter for batch in batches for letter in batch.dead]
    for block, first, last in parts:
        processes += map(ProcessBeat._make, block.processes(first, last))
        feeds += map(FeedBeat._make, block.feeds(first, last))
        dead += map(DeadLetter._make, block.dead(first, last))
    return [
        ("upsert_process", _process_rows(processes, ids)),
        ("upsert_feed", _feed_rows(feeds, ids)),
        ("insert_dead_letter", _dead_rows(dead, ids)),
        ("see_app", _app_rows(batches, parts, ids)),
    ]


def _process_rows(beats: Iterable[ProcessBeat], ids: Ids) -> list[Row]:
    def join(a: ProcessBeat, b: ProcessBeat) -> ProcessBeat:
        return a._replace(beat_ns=max(a.beat_ns, b.beat_ns), interval_s=greatest(a.interval_s, b.interval_s))

    joined = _joined(beats, lambda beat: beat.key, join)
    return sorted(
        (beat.key, ids.sites[beat.site], beat.pid, beat.host, beat.instance_id, beat.beat_ns, beat.interval_s)
        for beat in joined
    )


def _feed_rows(beats: Iterable[FeedBeat], ids: Ids) -> list[Row]:
    def join(a: FeedBeat, b: FeedBeat) -> FeedBeat:
        beat_ns, received_ns = max(a.beat_ns, b.beat_ns), max(a.received_ns, b.received_ns)
        return a._replace(beat_ns=beat_ns, received_ns=received_ns, skew_ns=min(a.skew_ns, b.skew_ns))

    joined = _joined(beats, lambda beat: (beat.site, beat.feed), join)
    return sorted((ids.sites[beat.site], beat.feed, beat.beat_ns, beat.received_ns, beat.skew_ns) for beat in joined)


def _app_rows(batches: Sequence[Batch], parts: Sequence[Part], ids: Ids) -> list[Row]:
    """When each service was heard of last, and with which version."""
    seen: dict[int, tuple[int, str | None]] = {}

    def see(site: str, service: str, version: str | None, received_ns: int) -> None:
        app_id = ids.apps[site, service]
        if app_id not in seen or seen[app_id][0] < received_ns:
            seen[app_id] = (received_ns, version)

    for resource, received_ns in _signs(batches):
        see(resource.site, resource.service, resource.service_version, received_ns)
    for block, first, last in parts:
        resources = block.resources
        for place, received_ns in block.apps(first, last):
            _, site, _, service, version, *_ = resources[place]
            see(site, service, version, received_ns)
    return [(app_id, *seen[app_id]) for app_id in sorted(seen)]


def _signs(batches: Sequence[Batch]) -> Iterable[tuple[Resource, int]]:
    for batch in batches:
        yield from ((span.resource, span.received_ns) for span in batch.spans)
        yield from ((record.resource, record.received_ns) for record in batch.logs)
        yield from ((point.series.resource, point.received_ns) for point in batch.points)


def _dead_rows(letters: Iterable[DeadLetter], ids: Ids) -> list[Row]:
    rows = {}
    for letter in letters:
        key = letter.key
        rows[key] = (key, ids.sites[letter.site], letter.signal, letter.reason, letter.sample, letter.received_ns)
    return [rows[key] for key in sorted(rows)]


def _joined(items: Iterable[T], key: Callable[[T], object], join: Callable[[T, T], T]) -> list[T]:
    found: dict[object, T] = {}
    for item in items:
        name = key(item)
        found[name] = join(found[name], item) if name in found else item
    return list(found.values())
