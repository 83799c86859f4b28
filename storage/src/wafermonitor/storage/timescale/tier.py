"""What the database can do beyond plain PostgreSQL, told by its catalog and never by trying.

In: a connection. Out: a `Tier`, and what the server would allow. Called by: `migrate`, `convert`, `wafer storage status`.

TimescaleDB's Apache edition answers a call of what only the Community edition has with an error, and one of them with a crash.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple

from wafermonitor.storage.errors import StorageRejected
from wafermonitor.storage.timescale.codecs import Connection
from wafermonitor.storage.timescale.statements import statement

OLDEST_EXTENSION = (2, 13)
"""The first TimescaleDB whose calls we use."""


class Tier(StrEnum):
    """Which database this is."""

    PLAIN = "plain"
    APACHE = "apache"
    COMMUNITY = "community"


class Facts(NamedTuple):
    """Tier and version of the extension in this database (None without it), and what the server would allow.

    `available`: the version that it has ready to be made, None where it has none. `preloaded`: whether it was started with it,
    without which the extension cannot be made.
    """

    tier: Tier
    version: str | None
    available: str | None
    preloaded: bool


async def facts(connection: Connection) -> Facts:
    """What the catalog says. Works on a database without our schema."""
    (row,) = await connection.fetch(statement("tier"))
    extended = Tier.COMMUNITY if row["license"] == "timescale" else Tier.APACHE
    tier = extended if row["version"] is not None else Tier.PLAIN
    return Facts(tier, row["version"], row["available"], bool(row["preloaded"]))


async def detect(connection: Connection) -> Tier:
    """The tier. StorageRejected when the extension is too old."""
    found = await facts(connection)
    if found.version is not None and _numbers(found.version) < OLDEST_EXTENSION:
        oldest = ".".join(map(str, OLDEST_EXTENSION))
        raise StorageRejected(f"TimescaleDB is {found.version} in this database: {oldest} or newer is needed")
    return found.tier


async def hypertables(connection: Connection) -> tuple[str, ...]:
    """The tables by day that are hypertables; none where our schema is not there yet."""
    if await connection.fetchval("SELECT to_regclass('wafer_data.day_table') IS NULL"):
        return ()
    rows = await connection.fetch("SELECT name FROM wafer_data.day_table WHERE is_hypertable ORDER BY name DESC")
    return tuple(row["name"] for row in rows)


async def native(connection: Connection) -> tuple[str, ...]:
    """The tables by day that have PostgreSQL's own partitions, in a database with our schema."""
    rows = await connection.fetch("SELECT name FROM wafer_data.day_table WHERE NOT is_hypertable ORDER BY name DESC")
    return tuple(row["name"] for row in rows)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])
