"""What the store needs done again and again, as statements: each call is one step on one connection.

In: a connection. Out: what was done. Called by: `storage.maintain`, which says when, and keeps the log; `wafer storage sweep`.
Any number of processes may call; an advisory lock lets one at a time do the work.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

import asyncpg

from wafermonitor.storage.config import ARRIVALS_S
from wafermonitor.storage.timescale.codecs import Connection
from wafermonitor.storage.timescale.failures import border
from wafermonitor.storage.timescale.migrate import DAYS_AHEAD
from wafermonitor.storage.timescale.statements import statement

LOCK = 0x77616665_72000002
"""The advisory lock of maintenance: "wafer", 2."""
LONG_LOCK = 0x77616665_72000005
"""That of the steps that may take hours: "wafer", 5."""
_LOCK_TIMEOUT = "5s"
"""A partition is attached under a lock; rather than hold up the writers behind a long reader, the next round tries again."""
_LONG_S = 24 * 3600.0
_SECOND_US, _SECOND_NS = 1_000_000, 1_000_000_000
_MOST_ANALYZED = 50
_NAMES_AT_ONCE = 5_000
"""Names that one transaction looks at: it holds their locks for some 50 ms."""
_log = logging.getLogger(__name__)


class Round(NamedTuple):
    """What one round did: partitions made, ghosts removed, runs whose `inferred` changed, DEFAULT partitions with rows."""

    partitions: tuple[str, ...]
    ghosts: int
    inferred: int
    strays: tuple[str, ...]


class State(NamedTuple):
    """What the log says of a step; times in seconds since 1970, None when there is none."""

    step: str
    failing: bool
    report: str
    last_s: float
    last_success_s: float | None
    failed_rounds: int


class Part(NamedTuple):
    """One table: bytes now, and bytes that each of its last whole days took."""

    table: str
    bytes: int
    daily_bytes: float


async def run_once(pool: asyncpg.Pool, *, hot_days: int, now_ns: int, remember_arrivals_s: float = ARRIVALS_S) -> Round | None:
    """The urgent steps once; None when another process is at it. Raises StorageUnavailable."""
    with border("maintain the store"):
        async with pool.acquire() as connection, leading(connection) as leads:
            if not leads:
                return None
            made = await partitions(connection, hot_days, now_ns)
            ghosts, inferred = await runs(connection, now_ns)
            await forget(connection, now_ns, remember_arrivals_s, None)
            done = Round(made, ghosts, inferred, await strays(connection))
    if done.strays:
        _log.error("rows are outside every prepared day, in %s", ", ".join(done.strays))
    return done


@asynccontextmanager
async def leading(connection: Connection, lock: int = LOCK) -> AsyncIterator[bool]:
    """Whether this connection has the lock. The server lets go of it when the connection is lost."""
    leads: bool = await connection.fetchval("SELECT pg_try_advisory_lock($1)", lock)
    try:
        yield leads
    finally:
        if leads and not connection.is_closed():
            await connection.execute("SELECT pg_advisory_unlock($1)", lock)


async def partitions(connection: Connection, hot_days: int, now_ns: int) -> tuple[str, ...]:
    """Days from `hot_days` ago to a week ahead, months of runs; the names of what was made."""
    today = datetime.fromtimestamp(now_ns // _SECOND_NS, UTC).date()
    oldest = today - timedelta(days=hot_days)
    async with connection.transaction():
        await connection.execute("SELECT set_config('lock_timeout', $1, true)", _LOCK_TIMEOUT)
        rows = await connection.fetch(
            "SELECT wafer_data.keep_partitions($1, $2, $3)", oldest, today + timedelta(days=DAYS_AHEAD), oldest
        )
    return tuple(row[0] for row in rows)


async def strays(connection: Connection) -> tuple[str, ...]:
    """DEFAULT partitions that hold rows and should not."""
    return tuple(row[0] for row in await connection.fetch("SELECT wafer_data.stray_partitions()"))


async def move_strays(connection: Connection) -> int:
    """Rows of days that were fenced a moment before they came are late rows like others; how many were moved."""
    moved: int = await connection.fetchval("SELECT wafer_data.move_strays()", timeout=_LONG_S)
    return moved


async def runs(connection: Connection, now_ns: int) -> tuple[int, int]:
    """Ghosts removed, runs whose `inferred` changed."""
    ghosts: int = await connection.fetchval("SELECT wafer_data.sweep_ghosts()", timeout=_LONG_S)
    inferred: int = await connection.fetchval("SELECT wafer_data.set_inferred($1)", now_ns, timeout=_LONG_S)
    return ghosts, inferred


async def forget(connection: Connection, now_ns: int, arrivals_s: float, letters_s: float | None) -> int:
    """First arrivals, and dead letters where `letters_s` says how long they stay; dead letters deleted."""
    await connection.execute(statement("forget_arrivals"), now_ns - int(arrivals_s * _SECOND_NS), timeout=_LONG_S)
    if letters_s is None:
        return 0
    before_ns = now_ns - int(letters_s * _SECOND_NS)
    return _count(await connection.execute(statement("forget_dead_letters"), before_ns, timeout=_LONG_S))


async def rollup_lag(connection: Connection) -> tuple[float, bool]:
    """Seconds that the rollups are behind, and whether older hours are still to be made."""
    (row,) = await connection.fetch(statement("rollup_lag"))
    return float(row["lag_s"]), bool(row["building"])


async def analyze(connection: Connection) -> tuple[str, ...]:
    """Make statistics that are stale; names of their tables."""
    rows = await connection.fetch("SELECT wafer_data.analyze_stale($1)", _MOST_ANALYZED, timeout=_LONG_S)
    return tuple(row[0] for row in rows)


async def bloated(connection: Connection) -> tuple[tuple[str, int, float], ...]:
    """Indexes that take much more than they need: name, bytes, how many times what is needed."""
    rows = await connection.fetch("SELECT name, bytes, ratio FROM wafer_data.bloated_index ORDER BY bytes DESC LIMIT 20")
    return tuple((row["name"], row["bytes"], row["ratio"]) for row in rows)


async def compress(connection: Connection, after_hours: float, now_ns: int) -> tuple[str, ...]:
    """Chunks of days that have been over for `after_hours`; nothing without TimescaleDB's Community edition."""
    before_us = now_ns // 1000 - int(after_hours * 3600 * _SECOND_US)
    await connection.execute("SELECT wafer_data.close_days($1)", before_us)
    done: list[str] = []
    # Once a round: rows may come to a compressed chunk again and again.
    while (chunk := await connection.fetchval("SELECT wafer_data.compress_next()", timeout=_LONG_S)) and chunk not in done:
        done.append(chunk)
    return tuple(done)


async def drop_unarchived(connection: Connection, days: int, run_days: int, now_ns: int) -> tuple[str, ...]:
    """Days older than `days`, months of runs older than `run_days`; what was dropped."""
    done: list[str] = []
    arguments = _before(days, run_days, now_ns)
    while one := await connection.fetchval("SELECT wafer_data.drop_unarchived($1, $2)", *arguments, timeout=_LONG_S):
        done.append(one)  # each in a transaction of its own
    return tuple(done)


async def unarchived(connection: Connection, days: int, run_days: int, now_ns: int) -> tuple[str, ...]:
    """What `drop_unarchived` would drop."""
    return tuple(row["dropped"] for row in await connection.fetch(statement("unarchived"), *_before(days, run_days, now_ns)))


def _before(days: int, run_days: int, now_ns: int) -> tuple[date, date]:
    today = datetime.fromtimestamp(now_ns // _SECOND_NS, UTC).date()
    return today - timedelta(days=days), today - timedelta(days=run_days)


async def forget_rollups(connection: Connection, keep_days: float, log_days: float, now_ns: int) -> int:
    """Rollups and log entries that are too old; how many."""
    now_us = now_ns // 1000
    before, log_before = (now_us - int(days * 86400 * _SECOND_US) for days in (keep_days, log_days))
    gone: int = await connection.fetchval("SELECT wafer_data.forget_rollups($1, $2)", before, log_before, timeout=_LONG_S)
    return gone


class Forgotten(NamedTuple):
    """How many went; `whole`: there was time to look at all of them."""

    series: int
    resources: int
    scopes: int
    processes: int
    whole: bool


async def forget_names(connection: Connection, now_ns: int, box_s: float, *, at_once: int = _NAMES_AT_ONCE) -> Forgotten:
    """Delete names that no stored row can have any more, and processes that are long silent; names.sql says which and why.

    Series before what they name. Each transaction looks at `at_once` of them; after `box_s` the rest waits for the next time.
    """
    ends_s = time.monotonic() + box_s
    today = datetime.fromtimestamp(now_ns // _SECOND_NS, UTC).date()
    await connection.execute(statement("note_names_day"), today)
    # Before the bound: a row that is moved from apart to its day meanwhile is in one of them.
    (apart,) = await connection.fetch("SELECT * FROM wafer_data.names_apart()", timeout=_LONG_S)
    before: date = await connection.fetchval("SELECT wafer_data.names_before($1)", today)
    gone = {"series": 0, "resources": 0, "scopes": 0}
    for kind in gone:
        last: int | None = -(2**31)
        while last is not None and time.monotonic() < ends_s:
            (row,) = await connection.fetch(statement(f"forget_{kind}"), last, at_once, before, apart[kind], timeout=_LONG_S)
            gone[kind] += row["gone"]
            last = row["last"]
    processes, some = 0, at_once
    while some == at_once and time.monotonic() < ends_s:
        some = _count(await connection.execute(statement("forget_processes"), before, at_once, timeout=_LONG_S))
        processes += some
    return Forgotten(**gone, processes=processes, whole=time.monotonic() < ends_s)


async def forget_files(connection: Connection, days: float, now_ns: int) -> None:
    """What the manifest says of files that were removed more than `days` ago: no reader still asks for a state with them."""
    await connection.execute(
        "DELETE FROM wafer_data.archive_manifest WHERE removed_at < $1",
        now_ns // 1000 - int(days * 86400 * _SECOND_US),
        timeout=_LONG_S,
    )


async def note_patience(connection: Connection, patience_s: dict[str, float]) -> None:
    """After how long without success each step is late, for those who ask the database."""
    await connection.execute(statement("note_patience"), list(patience_s), list(patience_s.values()))


async def log_step(connection: Connection, step: str, outcome: str, report: str, began_s: float) -> None:
    """One round of one step: outcome done, nothing or failed."""
    await connection.execute("SELECT wafer_data.log_step($1, $2, $3, $4)", step, outcome, report, int(began_s * _SECOND_US))


async def states(connection: Connection) -> dict[str, State]:
    """What the log says of each step that ever ran."""
    rows = await connection.fetch(statement("maintenance_states"))
    return {
        row["step"]: State(
            row["step"], row["failing"], row["last_report"], row["last_s"], row["last_success_s"], row["failed_rounds"]
        )
        for row in rows
    }


async def growth(connection: Connection, now_ns: int) -> list[Part]:
    """Every table, the largest first."""
    rows = await connection.fetch(statement("growth"), now_ns // 1000)
    return [Part(row["table_name"], row["bytes"], row["daily_bytes"]) for row in rows]


async def archived_daily_bytes(connection: Connection) -> float:
    """What the archive took for each of its last days."""
    taken: float = await connection.fetchval(statement("archived_daily_bytes"))
    return taken


async def oldest_day(connection: Connection) -> date | None:
    """The oldest day of spans, log records or points that is stored."""
    day: date | None = await connection.fetchval(statement("oldest_day"))
    return day


def _count(tag: str) -> int:
    """How many rows, from the server's `DELETE 3`."""
    return int(tag.rpartition(" ")[2])
