"""Statements of a migration that may not be one transaction, because they work beside the writers: indexes made CONCURRENTLY.

In: the text of a file that begins with the line `MARK`. Out: each statement done, in order. Called by: `migrate`.

Every statement may be run again: an upgrade that was killed begins the file anew. PostgreSQL makes no index of a partitioned
table beside its writers, so CREATE INDEX CONCURRENTLY of one is done here partition by partition; of a hypertable by chunk.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

import asyncpg

from wafermonitor.storage.timescale import tier
from wafermonitor.storage.timescale.statements import statement

MARK = "-- outside a transaction"
LOCK_TIMEOUT_MS = 1000
"""How long an upgrade waits for a table that others use; then it lets them go on, and tries again."""
_COLUMNS = re.compile(r"(USING \w+ )?\((?:[^()]|\([^()]*\))*\)(?!\s*(?:WITH|INCLUDE|NULLS))")
_CREATE = re.compile(r"CREATE (UNIQUE )?INDEX CONCURRENTLY (\w+) ON wafer_data\.(\w+) (.+)", re.DOTALL)


def statements(sql: str) -> Iterator[str]:
    """The statements of a file, which end with a semicolon at the end of a line (so no body of a function is among them)."""
    lines = [line for line in sql.splitlines() if line.strip() and not line.lstrip().startswith("--")]
    for text in re.split(r";\s*$", "\n".join(lines), flags=re.MULTILINE):
        if text.strip():
            yield text.strip()


async def run(connection: asyncpg.Connection, sql: str) -> None:
    """Do it all, as `wafer_owner`, each statement for itself. LockNotAvailableError when a table is in use for too long."""
    await connection.execute("SET ROLE wafer_owner")
    try:
        for text in statements(sql):
            index = _CREATE.fullmatch(text)
            if index is None:
                await (connection.execute if "CONCURRENTLY" in text else partial(_briefly, connection))(text)
            else:
                await _create(connection, *index.groups())
    finally:
        if not connection.is_closed():
            await connection.execute("RESET ROLE")


async def _create(connection: asyncpg.Connection, unique: str | None, name: str, table: str, rest: str) -> None:
    """An index that may be there already, or half of it."""
    kind = f"CREATE {unique or ''}INDEX"
    if table in await tier.hypertables(connection):
        await _create_by_chunk(connection, kind, name, table, rest)
        return
    if not await connection.fetchval(
        "SELECT relkind = 'p' FROM pg_class WHERE oid = $1::text::regclass", f"wafer_data.{table}"
    ):
        await _drop_broken(connection, table)
        await connection.execute(f"{kind} CONCURRENTLY IF NOT EXISTS {name} ON wafer_data.{table} {rest}")
        return
    # An empty one first: partitions that are attached from now on bring theirs along.
    await _briefly(connection, f"{kind} IF NOT EXISTS {name} ON ONLY wafer_data.{table} {rest}")
    for row in await connection.fetch(statement("index_lacking"), f"wafer_data.{name}"):
        partition = row["partition"]
        await _drop_broken(connection, partition)
        before = await _indexes(connection, partition)
        await connection.execute(f"{kind} CONCURRENTLY ON wafer_data.{partition} {rest}")
        (made,) = await _indexes(connection, partition) - before
        await _briefly(connection, f"ALTER INDEX wafer_data.{name} ATTACH PARTITION wafer_data.{made}")


async def _create_by_chunk(connection: asyncpg.Connection, kind: str, name: str, table: str, rest: str) -> None:
    """TimescaleDB knows no CONCURRENTLY: it locks a chunk at a time against its writers, for a unique index all at once."""
    for row in await connection.fetch(statement("index_broken"), f"wafer_data.{table}"):
        await _briefly(connection, f"DROP INDEX wafer_data.{row['name']}")
    if await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", f"wafer_data.{name}"):
        return
    columns = _COLUMNS.match(rest)
    if columns is None or kind != "CREATE INDEX":
        await connection.execute(f"{kind} {name} ON wafer_data.{table} {rest}")
        return
    condition = rest[columns.end() :]
    by_chunk = "WITH (timescaledb.transaction_per_chunk)"
    await connection.execute(f"{kind} {name} ON wafer_data.{table} {columns[0]} {by_chunk} {condition}")


async def _briefly(connection: asyncpg.Connection, sql: str) -> None:
    """What locks a table against its writers, for a moment: it must not wait for long, because they all wait behind it."""
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}; {sql}")


async def _indexes(connection: asyncpg.Connection, table: str) -> set[str]:
    rows = await connection.fetch("SELECT indexname FROM pg_indexes WHERE schemaname = 'wafer_data' AND tablename = $1", table)
    return {row["indexname"] for row in rows}


async def _drop_broken(connection: asyncpg.Connection, table: str) -> None:
    """What an upgrade that was killed has left: CONCURRENTLY does not take its half-made index back."""
    for row in await connection.fetch(statement("index_broken"), f"wafer_data.{table}"):
        await connection.execute(f"DROP INDEX CONCURRENTLY wafer_data.{row['name']}")
