"""Is this store in order? Every finding says what is wrong and what mends it: `wafer storage check`.

In: a connection, and the data folder where it is on this machine. Out: `Finding` rows. Called by: `wafer storage check`.
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import asyncpg

from wafermonitor.storage.timescale import migrate, tier
from wafermonitor.storage.timescale.statements import statement

_LEAST_DAYS = 2
_GIB = 1024**3
_LOW_DISK, _VERY_LOW_DISK = 0.2, 0.1
_OLD_TRANSACTION_S = 3600
_OLD_XIDS = 1_000_000_000
_LEAST_LOG_BYTES = _GIB


class Level(StrEnum):
    """How bad: `fail` makes the command fail."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(NamedTuple):
    """One thing that was looked at."""

    name: str
    level: Level
    text: str


async def inspect(connection: asyncpg.Connection, data: Path | None) -> list[Finding]:
    """Everything; `data` is the folder on the disk that fills, None when it is not on this machine."""
    found = [await _schema(connection), await _tier(connection)]
    if found[0].level is not Level.FAIL:
        found += [await _days(connection), await _strays(connection), await _late(connection)]
        found += [await _indexes(connection), await _unmoved(connection)]
    found += [*await _settings(connection), *await _sessions(connection), _disk(data)]
    return found


async def _schema(connection: asyncpg.Connection) -> Finding:
    now = await migrate.status(connection)
    if now.current:
        return Finding("schema", Level.OK, f"{len(now.applied)} migrations, views and functions of this release")
    missing = ", ".join(now.pending) or "views and functions of this release"
    return Finding("schema", Level.FAIL, f"{missing} missing: run `wafer storage migrate`")


async def _tier(connection: asyncpg.Connection) -> Finding:
    found = await tier.facts(connection)
    if found.version is None:
        return Finding("tier", Level.OK, f"PostgreSQL {connection.get_server_version().major} without TimescaleDB")
    return Finding("tier", Level.OK, f"TimescaleDB {found.version}, {found.tier} edition")


async def _days(connection: asyncpg.Connection) -> Finding:
    """Days ahead: without them every row is late, which is right but slow to read."""
    (row,) = await connection.fetch(statement("read_window"))
    if row["newest"] is None:
        return Finding("days", Level.FAIL, "no day is ready: run `wafer storage migrate`, or `wafer storage sweep`")
    ahead = (row["newest"] - datetime.now(UTC)).days
    text = f"ready from {row['oldest']:%Y-%m-%d} to before {row['newest']:%Y-%m-%d}, {ahead} days ahead"
    if ahead < 0:
        return Finding("days", Level.FAIL, f"{text}: nobody maintains this store; run a receiver, or `wafer storage sweep`")
    level = Level.WARN if ahead < _LEAST_DAYS else Level.OK
    return Finding("days", level, text if level is Level.OK else f"{text}: maintenance has not run for days")


async def _strays(connection: asyncpg.Connection) -> Finding:
    names = [row[0] for row in await connection.fetch("SELECT wafer_data.stray_partitions()")]
    if names:
        text = f"rows of no day in {', '.join(names)}, where no writer of ours puts them: move them to the *_late table"
        return Finding("strays", Level.FAIL, text)
    return Finding("strays", Level.OK, "the DEFAULT partitions are empty")


async def _late(connection: asyncpg.Connection) -> Finding:
    rows = await connection.fetch(statement("late_without_names"))
    if rows:
        named = ", ".join(f"{row['rows']} of {row['name']}" for row in rows)
        text = (
            f"{named} refer to a resource, scope, site or series that is not here: nobody can read them; take it from a backup"
        )
        return Finding("late rows", Level.WARN, text)
    return Finding("late rows", Level.OK, "all can be read")


async def _indexes(connection: asyncpg.Connection) -> Finding:
    names = [row["name"] for row in await connection.fetch(statement("invalid_indexes"))]
    if names:
        text = f"not valid: {', '.join(names)}: run `wafer storage migrate`, else drop them and make them anew"
        return Finding("indexes", Level.FAIL, text)
    return Finding("indexes", Level.OK, "all valid")


async def _unmoved(connection: asyncpg.Connection) -> Finding:
    native = await tier.native(connection)
    left = await connection.fetchval("SELECT count(*) FROM wafer_data.unmoved_partition")
    if left:
        return Finding("hypertables", Level.WARN, f"{left} days are still to be moved: run `wafer storage convert` again")
    if native and await tier.detect(connection) is not tier.Tier.PLAIN:
        return Finding("hypertables", Level.WARN, f"{', '.join(native)} could be hypertables: run `wafer storage convert`")
    return Finding("hypertables", Level.OK, "none is wanted" if native else "all days are in hypertables")


async def _settings(connection: asyncpg.Connection) -> list[Finding]:
    rows = {row["name"]: row["setting"] for row in await connection.fetch(statement("settings_that_matter"))}
    found = []
    for name, why in (("fsync", "a power cut destroys the database"), ("full_page_writes", "a power cut destroys pages")):
        level = Level.OK if rows[name] == "on" else Level.FAIL
        found.append(Finding(name, level, "on" if level is Level.OK else f"off: {why}; set it on"))
    committed = rows["synchronous_commit"] != "off"
    text = (
        rows["synchronous_commit"] if committed else "off: the writer asks for it in each transaction; set it on for the rest"
    )
    found.append(Finding("synchronous_commit", Level.OK if committed else Level.WARN, text))
    log_bytes = int(rows["max_wal_size"]) * 1024**2
    small = log_bytes < _LEAST_LOG_BYTES
    text = f"{log_bytes / _GIB:.1f} GiB" + (
        ": checkpoints follow each other closely; see `wafer storage tune`" if small else ""
    )
    found.append(Finding("max_wal_size", Level.WARN if small else Level.OK, text))
    return found


async def _sessions(connection: asyncpg.Connection) -> list[Finding]:
    """What keeps vacuum from working."""
    age_s = await connection.fetchval(statement("oldest_transaction"))
    old = age_s > _OLD_TRANSACTION_S
    text = f"open for {age_s / 3600:.1f} h: dead rows stay until it ends (pg_stat_activity names it)" if old else "none is old"
    xids = await connection.fetchval("SELECT age(datfrozenxid) FROM pg_database WHERE datname = current_database()")
    worn = xids > _OLD_XIDS
    rest = "autovacuum does not keep up: run VACUUM FREEZE" if worn else "far from the end of their numbers"
    return [
        Finding("transactions", Level.WARN if old else Level.OK, text),
        Finding("transaction numbers", Level.FAIL if worn else Level.OK, f"{xids / 1e6:.0f} million old, {rest}"),
    ]


def _disk(data: Path | None) -> Finding:
    if data is None:
        return Finding("disk", Level.OK, "the server's disk is not on this machine: watch it there")
    usage = shutil.disk_usage(data)
    free = usage.free / usage.total
    text = f"{usage.free / _GIB:.1f} GiB free of {usage.total / _GIB:.0f} GiB"
    if free < _VERY_LOW_DISK:
        return Finding("disk", Level.FAIL, f"{text}: archive and drop days, or add room; a full disk stops all writing")
    level = Level.WARN if free < _LOW_DISK else Level.OK
    return Finding("disk", level, text)
