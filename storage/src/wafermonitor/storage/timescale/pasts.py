"""What alerting and ETA ask of runs: starts to match with expectations, history, tallies; each is one statement.

In: wants. Out: `StoredStart`, `PastRun`, `Tally`, as `storage.pasts` means them. Called by: `reader`.
"""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from wafermonitor.runs.records import RunKey
from wafermonitor.runs.state import SECOND_NS
from wafermonitor.storage.protocol import PastRun, StartsWanted, StoredStart, Tally
from wafermonitor.storage.timescale.codecs import Connection
from wafermonitor.storage.timescale.statements import statement


async def starts(connection: Connection, wanted: Sequence[StartsWanted], limit: int) -> list[list[StoredStart]]:
    """`Reader.starts`."""
    distinct = list(dict.fromkeys(wanted))
    columns = ([want.site for want in distinct], [want.job for want in distinct], [want.from_ns for want in distinct])
    found: dict[StartsWanted, list[StoredStart]] = {want: [] for want in distinct}
    for row in await connection.fetch(statement("starts"), *columns, limit):
        found[distinct[row["place"] - 1]].append(_start_of(row))
    return [found[want] for want in wanted]


async def history(connection: Connection, jobs: Sequence[tuple[str, str]], limit: int) -> list[list[PastRun]]:
    """`Reader.history`."""
    distinct = list(dict.fromkeys(jobs))
    found: dict[tuple[str, str], list[PastRun]] = {job: [] for job in distinct}
    columns = ([site for site, _ in distinct], [job for _, job in distinct])
    for row in await connection.fetch(statement("history"), *columns, limit):
        found[distinct[row["place"] - 1]].append(_past_of(row))
    return [found[job] for job in jobs]


async def tallies(connection: Connection, from_ns: int, to_ns: int) -> list[Tally]:
    """`Reader.tallies`."""
    return [Tally(*row) for row in await connection.fetch(statement("tallies"), from_ns, to_ns)]


def _start_of(row: asyncpg.Record) -> StoredStart:
    return StoredStart(
        key=_key(row),
        job=row["job"],
        start_ns=row["start_unix_ns"],
        received_ns=row["received_unix_ns"],
        nominal_ns=row["nominal_unix_ns"],
        run_id=row["run_id"],
        attempt=row["attempt"],
        lot_ids=tuple(row["lot_ids"] or ()),
        feed=row["feed_id"],
        announced=row["announced"],
        end_ns=row["end_unix_ns"],
        result=row["result"],
    )


def _past_of(row: asyncpg.Record) -> PastRun:
    start_ns, end_ns = row["start_unix_ns"], row["end_unix_ns"]
    return PastRun(
        key=_key(row),
        start_ns=start_ns,
        duration_s=None if end_ns is None else (end_ns - start_ns) / SECOND_NS,
        result=row["result"],
        error_type=row["error_type"],
        equipment=row["equipment"],
        recipe=row["recipe"],
        product=row["product"],
        memory_bytes=row["memory_bytes"],
    )


def _key(row: asyncpg.Record) -> RunKey:
    return RunKey(row["site"], row["trace_id"], row["span_id"].to_bytes(8, signed=True))
