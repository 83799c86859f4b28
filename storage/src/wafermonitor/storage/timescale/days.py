"""How days leave PostgreSQL and come back: what `storage.archive` asks of a store, in SQL.

In: places, entries, records. Out: records in the order of the archive, counts, the manifest. Called by: `storage.archive`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import date, timedelta
from typing import Any, NamedTuple

import asyncpg

from wafermonitor.runs.records import Batch, LogRecord, MetricPoint, Run, Span
from wafermonitor.storage.archive.protocol import (
    Choice,
    DayState,
    Entry,
    Held,
    Identity,
    Late,
    Manifest,
    Place,
    Signal,
    day_of,
    start_of,
)
from wafermonitor.storage.errors import StorageUnavailable
from wafermonitor.storage.timescale.codecs import Connection
from wafermonitor.storage.timescale.dictionary import Dictionary
from wafermonitor.storage.timescale.failures import border
from wafermonitor.storage.timescale.records import log_of, point_of, run_of, span_of
from wafermonitor.storage.timescale.rows import (
    DELTA_COLUMNS,
    LOG_COLUMNS,
    POINT_COLUMNS,
    SPAN_COLUMNS,
    Ids,
    Row,
    columns,
    log_row,
    point_row,
    run_row,
    span_row,
)
from wafermonitor.storage.timescale.statements import statement
from wafermonitor.storage.timescale.writer import Writer

LOCK = 0x77616665_72000010
"""The advisory lock of the archiver: "wafer", 16."""
_FETCH_ROWS = 4_096
_LAST_NS = 2**63 - 1
_PLAIN_HOURS, _COMPRESSED_HOURS = 72.0, 90 * 24.0
"""How long days stay: a span takes 900 bytes as a row, and a tenth of that when it is compressed."""
_SLOW_S = 6 * 3600.0
"""Longest wait for a day to be sorted, counted or copied."""
_NAME, _TURNS = "archive", "archive_turns"
"""Settings that tell whose archive it is."""
_STORE, _ARCHIVE = False, True
"""Who answers for a day that is marked."""
_LOCK_TIMEOUT = "5s"
"""A partition is dropped under a lock; rather than hold up writers behind a long reader, the next round tries again."""
_RESTORE_LOCK_TIMEOUT, _RESTORE_ATTEMPTS = "1s", 60
"""A partition that is complete is attached when no long reader is in the way; nobody waits behind it for longer than that."""


class _Source(NamedTuple):
    """Where one signal's rows stand, and how they become records and rows again."""

    parent: str
    record: Callable[[Any], Any]
    handle: Callable[[Any], Row]
    columns: tuple[str, ...]
    row: Callable[[Any, Ids], Row]
    batch: Callable[[list[Any]], Batch]


def _span_handle(row: asyncpg.Record) -> Row:
    return (row["trace_id"], row["span_id"], row["start_time"], row["start_ns"], row["site"])


def _log_handle(row: asyncpg.Record) -> Row:
    return (row["time"], row["digest"])


def _point_handle(row: asyncpg.Record) -> Row:
    return (row["key"], row["time"], row["time_ns"])


def _run_handle(row: asyncpg.Record) -> Row:
    return (row["trace_id"], row["span_id"], row["site"], str(row["changed_xid"]))


def _spans(records: list[Span]) -> Batch:
    return Batch(spans=records)


def _logs(records: list[LogRecord]) -> Batch:
    return Batch(logs=records)


def _points(records: list[MetricPoint]) -> Batch:
    return Batch(points=records)


def _runs(records: list[Run]) -> Batch:
    return Batch(runs=records)


_SOURCES = {
    Signal.SPANS: _Source("span", span_of, _span_handle, SPAN_COLUMNS, span_row, _spans),
    Signal.LOGS: _Source("log_record", log_of, _log_handle, LOG_COLUMNS, log_row, _logs),
    Signal.METRICS: _Source("metric_point", point_of, _point_handle, POINT_COLUMNS, point_row, _points),
    Signal.RUNS: _Source("run", lambda row: run_of(row).run, _run_handle, DELTA_COLUMNS, run_row, _runs),
}


class Days:
    """The days of one database. The pool's connections must have been through `codecs.register`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._dictionary = Dictionary()
        self._leader: Connection | None = None

    @asynccontextmanager
    async def leading(self) -> AsyncIterator[bool]:
        """By an advisory lock, which the server lets go of when the connection is lost. What is published goes through it."""
        with border("become the archiver"):
            connection = await self._pool.acquire()
        try:
            with border("become the archiver"):
                leading: bool = await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK)
            self._leader = connection if leading else None
            yield leading
        finally:
            self._leader = None
            await self._pool.release(connection)  # which unlocks, or closes what is broken

    async def confirm(self) -> None:
        """As the protocol says. Nothing to lose for a step that somebody takes without leading."""
        with border("go on as the archiver"):
            if self._leader is not None:
                await self._leader.execute("SELECT")

    @asynccontextmanager
    async def _publishing(self) -> AsyncIterator[Connection]:
        """A transaction on the connection that has the lock: it fails when the lock was lost, and somebody else may have it."""
        if self._leader is not None:
            async with self._leader.transaction(isolation="read_committed"):
                yield self._leader
        else:
            async with self._pool.acquire() as connection, connection.transaction(isolation="read_committed"):
                yield connection

    async def identity(self) -> Identity:
        """From the settings."""
        with border("read the archive's name"):
            rows = await self._pool.fetch(statement("archive_identity"))
        found = {row["name"]: row["value"] for row in rows}
        return Identity(found.get(_NAME, ""), tuple(found.get(_TURNS, "").split()))

    async def identify(self, identity: Identity) -> None:
        """To the settings."""
        with border("note the archive's name"):
            async with self._publishing() as connection:
                await connection.execute(statement("archive_identify"), _NAME, identity.archive, "which archive this store has")
                turns = " ".join(identity.turns)
                await connection.execute(statement("archive_identify"), _TURNS, turns, "the last uses of that archive")

    async def gone(self, signal: Signal, days: Collection[date]) -> list[date]:
        """By partition, of runs by that of the month."""
        with border("list stored days"):
            if signal is Signal.RUNS:
                months = {row[0] for row in await self._pool.fetch("SELECT wafer_data.stored_months()")}
                return sorted(day for day in days if day.replace(day=1) not in months)
            rows = await self._pool.fetch("SELECT * FROM wafer_data.stored_days($1)", _SOURCES[signal].parent)
        return sorted(set(days) - {row["day"] for row in rows})

    async def fence(self, before: date) -> date:
        """Then what slipped past the fence a moment ago is moved to the late rows."""
        with border("fence days"):
            async with self._pool.acquire() as connection:
                fence: date = await connection.fetchval("SELECT wafer_data.fence_days($1::date)", before)
                await connection.execute("SELECT wafer_data.move_strays()", timeout=_SLOW_S)
        return fence

    async def stored(self, signal: Signal, before: date) -> list[date]:
        """By partition; runs by their start."""
        with border("list stored days"):
            if signal is Signal.RUNS:
                rows = await self._pool.fetch(statement("archive_stored_runs"), before, timeout=_SLOW_S)
                months = {row[0] for row in await self._pool.fetch("SELECT wafer_data.stored_months()")}
                return [row["day"] for row in rows if row["day"].replace(day=1) in months]
            rows = await self._pool.fetch("SELECT * FROM wafer_data.stored_days($1)", _SOURCES[signal].parent)
            return [row["day"] for row in rows if row["settled"] and row["day"] < before]

    async def empty_months(self, before: date) -> list[date]:
        """By partition."""
        with border("list stored months"):
            return [row["month"] for row in await self._pool.fetch(statement("archive_empty_months"), before)]

    async def archived(self, signal: Signal) -> Mapping[date, DayState]:
        """As the protocol says."""
        with border("list archived days"):
            rows = await self._pool.fetch(statement("archive_days"), signal.value)
        return {row["day"]: DayState(row["dropped"], row["kept_until"]) for row in rows}

    async def counts(self, signal: Signal, day: date) -> Mapping[str, int]:
        """As the protocol says."""
        with border("count a day's rows"):
            rows = await self._pool.fetch(statement(f"archive_count_{signal}"), *_bounds(day), timeout=_SLOW_S)
        return {row["site"]: row["rows"] for row in rows}

    async def rows(self, place: Place) -> AsyncGenerator[list[Any]]:
        """By a cursor in one snapshot."""
        record = _SOURCES[place.signal].record
        with border("read a day's rows"):
            async with self._pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
                await connection.execute(statement("begin_reading"))
                query = statement(f"archive_{place.signal}")
                cursor = await connection.cursor(query, place.site, *_bounds(place.day), timeout=_SLOW_S)
                while rows := await cursor.fetch(_FETCH_ROWS, timeout=_SLOW_S):
                    yield [record(row) for row in rows]

    async def fingerprint(self, signal: Signal, day: date) -> Held | None:
        """Of the partition."""
        with border("look at a day"):
            found: str | None = await self._pool.fetchval(
                "SELECT wafer_data.fingerprint($1, $2::date)", _SOURCES[signal].parent, day, timeout=_SLOW_S
            )
        return None if found is None else Held(int(found.partition(" ")[0]), found)

    async def drop(self, signal: Signal, day: date, held: Held) -> bool:
        """The partition, and in the same transaction the note that the archive answers."""
        last = _month_end(day) if signal is Signal.RUNS else day
        with border("drop a day"):
            async with self._publishing() as connection:
                await connection.execute("SELECT set_config('lock_timeout', $1, true)", _LOCK_TIMEOUT)
                dropped = await connection.fetchval(
                    "SELECT wafer_data.drop_archived($1, $2::date, $3)",
                    _SOURCES[signal].parent,
                    day,
                    held.mark,
                    timeout=_SLOW_S,
                )
                if dropped:
                    version = await _next_version(connection)
                    first = day.replace(day=1) if signal is Signal.RUNS else day
                    await connection.execute(statement("archive_dropped"), signal.value, first, last, version)
        return bool(dropped)

    async def hot_hours(self) -> float:
        """By the edition: only TimescaleDB Community compresses."""
        with border("ask for the edition"):
            tier = await self._pool.fetchval("SELECT wafer_data.tier()")
        return _COMPRESSED_HOURS if tier == "community" else _PLAIN_HOURS

    async def entries(self, signal: Signal, day: date) -> list[Entry]:
        """As the protocol says."""
        with border("read the archive's manifest"):
            rows = await self._pool.fetch(statement("archive_entries"), signal.value, day)
        return [_entry(row) for row in rows]

    async def restores(self) -> int:
        """As the protocol says."""
        with border("read the archive's manifest"):
            found: int = await self._pool.fetchval(statement("archive_restores"))
        return found

    async def files(self, choice: Choice, limit: int) -> Manifest:
        """As the protocol says."""
        signal, sites, from_ns, to_ns = choice
        first, last = (None if at_ns is None else _day_within(at_ns) for at_ns in (from_ns, to_ns))
        return await self._state("archive_files", signal.value, list(sites) or None, first, last, from_ns, to_ns, limit)

    async def manifest(self) -> Manifest:
        """As the protocol says."""
        return await self._state("archive_manifest")

    async def _state(self, name: str, *arguments: Any) -> Manifest:
        """In one snapshot."""
        with border("read the archive's manifest"):
            async with self._pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
                restores: int = await connection.fetchval(statement("archive_restores"))
                rows = await connection.fetch(statement(name), *arguments)
        return Manifest(restores, tuple(_entry(row) for row in rows))

    async def record(
        self,
        signal: Signal,
        entries: Sequence[Entry],
        *,
        retire: Sequence[str] = (),
        whole: date | None = None,
        late: Sequence[Late] = (),
        gone: Collection[date] = (),
    ) -> int:
        """As the protocol says."""
        with border("record archived files"):
            async with self._publishing() as connection:
                version = await _next_version(connection)
                if entries:
                    await connection.execute(statement("archive_record"), *columns(map(_entry_row, entries)), version)
                if retire:
                    await connection.execute(statement("archive_retire"), list(retire), version)
                if whole is not None:
                    await connection.execute(statement("archive_mark"), signal.value, [whole], _STORE, version)
                if late:
                    await connection.execute(statement(f"archive_forget_{signal}"), *columns(one.handle for one in late))
                if gone:
                    await connection.execute(statement("archive_mark"), signal.value, sorted(gone), _ARCHIVE, version)
        return version

    async def late(
        self, signal: Signal, limit: int, *, runs_before: date | None = None, without: Collection[Place] = ()
    ) -> list[Late]:
        """Rows of `*_late`; of runs those that `run_default` took for a month without a table, and open ones of such months."""
        source = _SOURCES[signal]
        excluded = [place.site for place in without], [place.day for place in without]
        query = statement(f"archive_late_{signal}")
        with border("read late rows"):
            if signal is Signal.RUNS and runs_before is not None:
                await self._pool.execute(statement("archive_raise_horizon"), runs_before, timeout=_SLOW_S)
            async with self._pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
                await connection.execute(statement("begin_reading"))
                if signal is Signal.RUNS:
                    rows = await connection.fetch(query, runs_before, limit, *excluded, timeout=_SLOW_S)
                    unended = statement("archive_late_open_runs")
                    rows += await connection.fetch(unended, runs_before, limit - len(rows), *excluded, timeout=_SLOW_S)
                else:
                    fence = await connection.fetchval("SELECT wafer_data.fenced_before()")
                    stored = await connection.fetch("SELECT * FROM wafer_data.stored_days($1)", source.parent)
                    days = [row["day"] for row in stored]
                    rows = await connection.fetch(query, fence, days, limit, *excluded, timeout=_SLOW_S)
        return [Late(source.record(row), source.handle(row)) for row in rows]

    async def restore(self, signal: Signal, day: date, batches: AsyncGenerator[list[Any]], until: date) -> int:
        """To a table beside, which becomes the partition in the transaction that says who answers. Killed, it begins again."""
        source = _SOURCES[signal]
        first, last = (day.replace(day=1), _month_end(day)) if signal is Signal.RUNS else (day, day)
        restored = 0
        with border("restore a day"):
            made = await self._pool.fetchval("SELECT wafer_data.prepare_restore($1, $2::date)", source.parent, day)
            async for records in batches:
                restored += await self._restore_some(source, made, records)
            for attempt in range(_RESTORE_ATTEMPTS):
                try:
                    await self._finish_restore(signal, first, last, until)
                except asyncpg.LockNotAvailableError:  # behind a long reader: others must not queue behind this for long
                    if attempt == _RESTORE_ATTEMPTS - 1:
                        raise
                else:
                    break
        return restored

    async def forget_restore(self) -> None:
        """As the protocol says."""
        with border("throw away what a killed restore left"):
            async with self._publishing() as connection:
                await connection.execute("SELECT wafer_data.forget_restore()")

    async def _restore_some(self, source: _Source, made: str, records: list[Any]) -> int:
        """How many were new."""
        ids = await self._dictionary.number(self._pool, [source.batch(records)])
        words = {"table": source.parent, "made": made, "columns": ", ".join(source.columns)}
        insert = "insert_restoring_runs" if source.parent == "run" else "insert_restoring"
        async with self._pool.acquire() as connection, connection.transaction(isolation="read_committed"):
            await connection.execute(statement("create_restoring").format(**words))
            await connection.copy_records_to_table(
                f"restoring_{source.parent}",
                schema_name="pg_temp",
                columns=source.columns,
                records=[source.row(record, ids) for record in records],
                timeout=_SLOW_S,
            )
            done: str = await connection.execute(statement(insert).format(**words), timeout=_SLOW_S)
        return int(done.rpartition(" ")[2])

    async def _finish_restore(self, signal: Signal, first: date, last: date, until: date) -> None:
        async with self._publishing() as connection:
            await connection.execute("SELECT set_config('lock_timeout', $1, true)", _RESTORE_LOCK_TIMEOUT)
            if signal is Signal.RUNS:
                await connection.execute("SELECT wafer_data.finish_restore_runs($1::date)", first, timeout=_SLOW_S)
            else:
                parent = _SOURCES[signal].parent
                await connection.execute("SELECT wafer_data.finish_restore($1, $2::date)", parent, first, timeout=_SLOW_S)
            await connection.execute(statement("archive_restored"), signal.value, first, last, until)

    async def known(self, paths: Sequence[str]) -> set[str]:
        """As the protocol says."""
        with border("look files up"):
            return {row["path"] for row in await self._pool.fetch(statement("archive_known"), list(paths))}

    async def removable(self, grace_hours: float) -> list[str]:
        """As the protocol says."""
        with border("list retired files"):
            return [row["path"] for row in await self._pool.fetch(statement("archive_removable"), grace_hours)]

    async def give_back(self, runs: list[Any]) -> None:
        """By the writer, which merges them with what is stored."""
        await Writer(self._pool).write([Batch(runs=runs)])

    async def removed(self, paths: Sequence[str]) -> None:
        """As the protocol says."""
        with border("note removed files"):
            async with self._publishing() as connection:
                await connection.execute(statement("archive_removed"), list(paths))


async def _next_version(connection: Connection) -> int:
    """There is one archiver at a time, so nobody else takes the same number; whoever comes between is refused by the lock."""
    if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", LOCK + 1):
        raise StorageUnavailable("another archiver is at work")
    newest: int = await connection.fetchval(statement("archive_version"))
    return newest + 1


def _entry_row(entry: Entry) -> Row:
    return (
        entry.path,
        entry.place.signal.value,
        entry.place.site,
        entry.place.day,
        entry.rows,
        entry.size_bytes,
        entry.sha256,
        entry.checksum,
        entry.from_ns,
        entry.to_ns,
    )


def _entry(row: asyncpg.Record) -> Entry:
    return Entry(
        path=row["path"],
        place=Place(Signal(row["signal"]), row["site"], row["day"]),
        rows=row["row_count"],
        size_bytes=row["size_bytes"],
        sha256=row["sha256"],
        checksum=row["checksum"],
        from_ns=row["from_unix_ns"],
        to_ns=row["to_unix_ns"],
        version=row["version"],
        dropped=row["dropped_version"] is not None,
        recorded=day_of(row["recorded_at"] * 1000),
    )


def _day_within(at_ns: int) -> date:
    """The day of a time, or the first or last day that there can be."""
    return day_of(max(0, min(at_ns, _LAST_NS)))


def _bounds(day: date) -> tuple[int, int]:
    """Midnights in µs, as the codecs show timestamptz."""
    return start_of(day) // 1000, start_of(day + timedelta(days=1)) // 1000


def _month_end(day: date) -> date:
    return (day.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)
