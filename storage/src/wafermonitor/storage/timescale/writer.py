"""Rows in: each group of batches is one transaction, stored exactly once however often it is sent.

In: batches of records, and parts of blocks whose rows are ready to be copied. Out: committed rows. Called by: the receiver.

Straight COPY first: a unique index per table refuses what is already there. When it does (rare), the transaction is rolled back
and the group goes through temporary tables with INSERT … ON CONFLICT DO NOTHING, in the order of the keys, which also is what
two writers with overlapping groups cannot deadlock on. Source: design/3 §3.2.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import asyncpg

from wafermonitor.runs.records import Batch
from wafermonitor.storage.errors import StorageUnavailable
from wafermonitor.storage.protocol import Part, RowFormat
from wafermonitor.storage.timescale.codecs import Connection
from wafermonitor.storage.timescale.dictionary import Dictionary
from wafermonitor.storage.timescale.failures import TRANSIENT, border
from wafermonitor.storage.timescale.groups import Copy, Group, gather
from wafermonitor.storage.timescale.rows import columns, letter_key
from wafermonitor.storage.timescale.statements import statement

WAITING = "run_waiting"
"""The session's table of runs that are too many for one transaction."""
ATTEMPTS = 8
"""How often a group is tried when the database says that only the moment was wrong."""
CHUNK_BYTES = 256 * 1024
"""Of a COPY stream at a time: larger ones are copied once more while they wait, smaller ones cost 40 % more CPU."""
MOST_DELTAS = 4096
"""Of runs in one transaction: about 0.2 s under the lock for which every other writer waits."""
WINDOW_AGE_S = 60.0
"""How old the known window of prepared days may be; days are prepared a week ahead."""

HELD_UP_S = 6 * 3600.0
"""How old the numbers of a group's names may be when its transaction begins; names.sql counts on it."""


class _Window(NamedTuple):
    """The days that have partitions, [oldest, newest) in µs, and when that was read (monotonic s)."""

    oldest_us: int
    newest_us: int
    read_s: float


class Writer:
    """Stores batches in PostgreSQL. The pool's connections must have been through `codecs.register`."""

    row_format = RowFormat.COPY_BINARY

    def __init__(self, pool: asyncpg.Pool, *, window_age_s: float = WINDOW_AGE_S) -> None:
        self._pool = pool
        self._window_age_s = window_age_s
        self._window: _Window | None = None
        self._dictionary = Dictionary()

    async def write(self, batches: Sequence[Batch | Part]) -> None:
        """Store all of `batches`, in one transaction unless they change very many runs. When it returns, they are on disk."""
        try:
            await self._write(batches)
        except StorageUnavailable:
            self._dictionary.forget()  # after a failover the new server may lack the newest names
            raise

    async def _write(self, batches: Sequence[Batch | Part]) -> None:
        with border("store this group"):
            began_s = self._dictionary.elapsed()
            ids = await self._dictionary.number(self._pool, batches)
            window = await self._prepared()
            # In a thread: building rows takes longer than the event loop may be held up, and a block lets go of the GIL.
            group = await asyncio.to_thread(gather, batches, ids, window.oldest_us, window.newest_us)
            staged = False
            for _ in range(ATTEMPTS):
                if self._dictionary.elapsed() - began_s > HELD_UP_S:
                    raise StorageUnavailable("cannot store this group now: it was held up for hours")
                try:
                    await self._store(group, staged=staged)
                except (asyncpg.UniqueViolationError, *TRANSIENT):
                    staged = True
                else:
                    return
        raise StorageUnavailable("cannot store this group now: other writers hold the same rows")

    async def first_arrivals(self, arrivals: Mapping[bytes, int]) -> dict[bytes, int]:
        """One statement, committed before any row is written with its answer."""
        with border("look up when these items arrived"):
            # Read committed, whatever the database's default is: else what another writer stores meanwhile would be an error.
            async with self._pool.acquire() as connection, connection.transaction(isolation="read_committed"):
                # No wait for the disk: the commit of the rows comes later in the same log, and takes this with it.
                await connection.execute("SET LOCAL synchronous_commit = off")
                rows = await connection.fetch(statement("first_arrivals"), list(arrivals), list(arrivals.values()))
        return {row["digest"]: row["arrived_unix_ns"] for row in rows}

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

    async def _store(self, group: Group, *, staged: bool) -> None:
        """All of it in one transaction; but very many runs follow in transactions of their own.

        Merging is the same in any pieces, and nothing is acknowledged before the last: a group that fails half-way comes again.
        """
        many = group.deltas > MOST_DELTAS
        merging = bool(group.runs) and not many
        async with self._pool.acquire() as connection:
            try:
                await connection.execute(statement("begin_merging" if merging else "begin_writing"))
                await (_stage if staged else _copy_all)(connection, group.copies)
                if many:
                    await connection.execute(statement("create_waiting"))
                for copy in group.runs:
                    await _copy(connection, copy, WAITING if many else copy.table, schema="pg_temp")
                # After all that is copied: a writer that falls silent in a COPY is cut off by no timeout of the server.
                for query, rows in group.upserts:
                    if rows:
                        await connection.execute(statement(query), *columns(rows))
                # The lock of the runs is taken by the same message that commits: no writer can fall silent while it holds it.
                await connection.execute(statement("merge_runs" if merging else "commit"))
                for _ in range(0, group.deltas if many else 0, MOST_DELTAS):
                    await connection.execute(statement("begin_merging"))
                    await connection.execute(statement("take_waiting"), MOST_DELTAS)
                    await connection.execute(statement("merge_runs"))
                if many:
                    await connection.execute(statement("drop_waiting"))
            except BaseException:
                with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError):
                    await connection.execute("ROLLBACK")
                raise


async def _copy_all(connection: Connection, copies: Sequence[Copy]) -> None:
    for copy in copies:
        await _copy(connection, copy, copy.table, schema="wafer_data")


async def _copy(connection: Connection, copy: Copy, table: str, *, schema: str) -> None:
    if isinstance(copy.rows, bytes):
        await connection.copy_to_table(
            table, schema_name=schema, columns=copy.columns, source=_chunks(copy.rows), format="binary"
        )
    else:
        await connection.copy_records_to_table(table, schema_name=schema, columns=copy.columns, records=copy.rows)


async def _chunks(stream: bytes) -> AsyncIterator[bytes]:
    """Pieces that leave little behind in the transport's buffer; asyncpg waits between them until it is empty enough."""
    view = memoryview(stream)
    for start in range(0, len(stream), CHUNK_BYTES):
        yield view[start : start + CHUNK_BYTES]  # type: ignore[misc]  # the driver takes any buffer, its types only bytes


async def _stage(connection: Connection, copies: Sequence[Copy]) -> None:
    """Through temporary tables, so that rows which are already there do not stop the others."""
    by_table: dict[str, list[Copy]] = {}
    for copy in copies:
        by_table.setdefault(copy.table, []).append(copy)
    for table, parts in by_table.items():
        await connection.execute(statement("create_staged").format(table=table))
        for copy in parts:
            await _copy(connection, copy, f"staged_{table}", schema="pg_temp")
        names, key = ", ".join(parts[0].columns), ", ".join(parts[0].key)
        await connection.execute(statement("insert_staged").format(table=table, columns=names, key=key))
