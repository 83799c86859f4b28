"""Rows in: each group of batches is one transaction, stored exactly once however often it is sent.

In: batches of records. Out: committed rows. Called by: the receiver.

Straight COPY first: a unique index per table refuses what is already there. When it does (rare), the transaction is rolled back
and the group goes through temporary tables with INSERT … ON CONFLICT DO NOTHING, in the order of the keys, which also is what
two writers with overlapping groups cannot deadlock on. Source: design/3 §3.2.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import asyncpg

from wafermonitor.runs.merge import greatest, merge_all
from wafermonitor.runs.records import Batch, DeadLetter, FeedBeat, ProcessBeat, Resource
from wafermonitor.storage.errors import StorageUnavailable
from wafermonitor.storage.timescale.codecs import Connection
from wafermonitor.storage.timescale.dictionary import Dictionary
from wafermonitor.storage.timescale.failures import TRANSIENT, border
from wafermonitor.storage.timescale.rows import (
    LOG_COLUMNS,
    POINT_COLUMNS,
    SPAN_COLUMNS,
    Ids,
    Row,
    columns,
    letter_key,
    log_row,
    point_row,
    run_delta,
    span_row,
)
from wafermonitor.storage.timescale.statements import statement

T = TypeVar("T")
ATTEMPTS = 8
"""How often a group is tried when the database says that only the moment was wrong."""
WINDOW_AGE_S = 60.0
"""How old the known window of prepared days may be; days are prepared a week ahead."""


class _Table(NamedTuple):
    """Where one kind of row goes. `time` and `key` are positions in the row; rows outside the window go to `late`."""

    hot: str
    late: str
    columns: tuple[str, ...]
    time: int
    key: tuple[int, ...]


def _table(hot: str, late: str, names: tuple[str, ...], time_column: str, key: str) -> _Table:
    return _Table(hot, late, names, names.index(time_column), tuple(names.index(name) for name in key.split()))


_SPANS = _table("span", "span_late", SPAN_COLUMNS, "start_time", "trace_id span_id start_time site_id start_ns")
_LOGS = _table("log_record", "log_late", LOG_COLUMNS, "time", "time digest")
_POINTS = _table("metric_point", "metric_late", POINT_COLUMNS, "time", "series_id time time_ns")


class _Window(NamedTuple):
    """The days that have partitions, [oldest, newest) in µs, and when that was read (monotonic s)."""

    oldest_us: int
    newest_us: int
    read_s: float


@dataclass(slots=True)
class _Group:
    """One transaction's rows, ready to be sent."""

    copies: list[tuple[str, _Table, list[Row]]] = field(default_factory=list)
    runs: str | None = None
    processes: list[Row] = field(default_factory=list)
    feeds: list[Row] = field(default_factory=list)
    apps: list[Row] = field(default_factory=list)
    dead: list[Row] = field(default_factory=list)


class Writer:
    """Stores batches in PostgreSQL. The pool's connections must have been through `codecs.register`."""

    takes_rows = False

    def __init__(self, pool: asyncpg.Pool, *, window_age_s: float = WINDOW_AGE_S) -> None:
        self._pool = pool
        self._window_age_s = window_age_s
        self._window: _Window | None = None
        self._dictionary = Dictionary()

    async def write(self, batches: Sequence[Batch]) -> None:
        """Store all of `batches` in one transaction. When it returns, they are on disk as the server's settings have it."""
        try:
            await self._write(batches)
        except StorageUnavailable:
            self._dictionary.forget()  # after a failover the new server may lack the newest names
            raise

    async def _write(self, batches: Sequence[Batch]) -> None:
        with border("store this group"):
            ids = await self._dictionary.number(self._pool, batches)
            group = _group(batches, ids, await self._prepared())
            staged = False
            for _ in range(ATTEMPTS):
                try:
                    await self._store(group, staged=staged)
                except (asyncpg.UniqueViolationError, *TRANSIENT):
                    staged = True
                else:
                    return
        raise StorageUnavailable("cannot store this group now: other writers hold the same rows")

    async def forget_dead_letter(self, key: str) -> bool:
        """Delete it."""
        return await self._change_letter("delete a dead letter", "delete_dead_letter", letter_key(key))

    async def mark_dead_letter(self, key: str, retried_ns: int, answer: str) -> bool:
        """Count one retry."""
        return await self._change_letter("note a retry", "mark_dead_letter", letter_key(key), retried_ns, answer)

    async def _change_letter(self, doing: str, name: str, *arguments: object) -> bool:
        with border(doing):
            return await self._pool.fetchval(statement(name), *arguments) is True

    async def close(self) -> None:
        """Nothing is kept open: the pool belongs to whoever made it."""

    async def _prepared(self) -> _Window:
        now_s = time.monotonic()
        if self._window is None or now_s - self._window.read_s > self._window_age_s:
            (window,) = await self._pool.fetch(statement("read_window"))
            self._window = _Window(window["oldest"] or 0, window["newest"] or 0, now_s)
        return self._window

    async def _store(self, group: _Group, *, staged: bool) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(statement("begin_writing"))
            for name, table, rows in group.copies:
                if staged:
                    await _stage(connection, name, table, rows)
                else:
                    await _copy(connection, name, table, rows, schema="wafer_data")
            if group.runs is not None:
                await connection.execute(statement("merge_runs"), group.runs)
            for query, rows in (
                ("upsert_process", group.processes),
                ("upsert_feed", group.feeds),
                ("insert_dead_letter", group.dead),
                ("see_app", group.apps),
            ):
                if rows:
                    await connection.execute(statement(query), *columns(rows))


async def _copy(connection: Connection, name: str, table: _Table, rows: list[Row], *, schema: str | None) -> None:
    await connection.copy_records_to_table(name, schema_name=schema, columns=table.columns, records=rows)


async def _stage(connection: Connection, name: str, table: _Table, rows: list[Row]) -> None:
    """Through a temporary table, so that rows which are already there do not stop the others."""
    await connection.execute(statement("create_staged").format(table=name))
    await _copy(connection, f"staged_{name}", table, rows, schema="pg_temp")
    names, key = ", ".join(table.columns), ", ".join(table.columns[position] for position in table.key)
    insert = statement("insert_staged").format(table=name, columns=names, key=key)
    await connection.execute(insert)


def _group(batches: Sequence[Batch], ids: Ids, window: _Window) -> _Group:
    """What `batches` hold, without the doubles among them."""
    group = _Group()
    _add(group, _SPANS, (span_row(span, ids) for batch in batches for span in batch.spans), window)
    _add(group, _LOGS, (log_row(record, ids) for batch in batches for record in batch.logs), window)
    _add(group, _POINTS, (point_row(point, ids) for batch in batches for point in batch.points), window)
    runs = merge_all([run for batch in batches for run in batch.runs])
    if runs:
        group.runs = json.dumps([run_delta(run, ids) for run in runs], ensure_ascii=False, allow_nan=False)
    group.processes = _process_rows((beat for batch in batches for beat in batch.processes), ids)
    group.feeds = _feed_rows((beat for batch in batches for beat in batch.feeds), ids)
    group.apps = _app_rows(batches, ids)
    group.dead = _dead_rows((letter for batch in batches for letter in batch.dead), ids)
    return group


def _add(group: _Group, table: _Table, rows: Iterable[Row], window: _Window) -> None:
    unique: dict[Row, Row] = {}
    for row in rows:
        unique.setdefault(tuple([row[position] for position in table.key]), row)
    hot: list[Row] = []
    late: list[Row] = []
    for row in unique.values():
        (hot if window.oldest_us <= row[table.time] < window.newest_us else late).append(row)
    group.copies += [(name, table, part) for name, part in ((table.hot, hot), (table.late, late)) if part]


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


def _app_rows(batches: Sequence[Batch], ids: Ids) -> list[Row]:
    """When each service was heard of last, and with which version."""
    seen: dict[int, tuple[int, str | None]] = {}

    def see(resource: Resource, received_ns: int) -> None:
        app_id = ids.apps[resource.site, resource.service]
        if app_id not in seen or seen[app_id][0] < received_ns:
            seen[app_id] = (received_ns, resource.service_version)

    for batch in batches:
        for span in batch.spans:
            see(span.resource, span.received_ns)
        for record in batch.logs:
            see(record.resource, record.received_ns)
        for point in batch.points:
            see(point.series.resource, point.received_ns)
    return [(app_id, *seen[app_id]) for app_id in sorted(seen)]


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
