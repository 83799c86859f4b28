"""How asyncpg shows a few PostgreSQL types to us: as the plain integers and bytes that the records hold.

In: a new connection. Out: the same connection, speaking microseconds and bytes. Called by: `connect`, as `init=` of every pool
that a Writer or Reader is given.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TypeAlias

import asyncpg
import asyncpg.pool

Connection: TypeAlias = "asyncpg.Connection | asyncpg.pool.PoolConnectionProxy"
"""A connection of our own or one that a pool lends."""

_POSTGRES_EPOCH_US = int(datetime(2000, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
MINUS_INFINITY = -(2**63) + _POSTGRES_EPOCH_US
"""The time before all times, in microseconds since 1970."""


async def register(connection: Connection) -> None:
    """Show timestamptz as microseconds since 1970 (int) and uuid as 16 bytes."""
    await connection.set_type_codec("timestamptz", schema="pg_catalog", encoder=_time_out, decoder=_time_in, format="tuple")
    await connection.set_type_codec("uuid", schema="pg_catalog", encoder=_id_out, decoder=bytes, format="binary")


def _id_out(value: bytes) -> bytes:
    """Refused here, because the server takes a wrong length for a broken connection."""
    if len(value) != 16:  # noqa: PLR2004 - a uuid has 16 bytes
        raise ValueError("an id of a trace or a process has 16 bytes")
    return bytes(value)


def _time_out(unix_us: int) -> tuple[int]:
    return (unix_us - _POSTGRES_EPOCH_US,)


def _time_in(value: tuple[int]) -> int:
    return value[0] + _POSTGRES_EPOCH_US
