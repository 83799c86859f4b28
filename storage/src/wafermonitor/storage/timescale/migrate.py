"""The schema in step with the program: incremental files run once, idempotent files run again whenever one changed.

In: a connection of somebody who may act as `wafer_owner`. Out: the schema of this release, and what was done to reach it.
Called by: `store.open` (embedded: upgrade; a server of the operator's: check), `wafer storage migrate`, `wafer storage status`.

    sql/bootstrap.sql                                roles, schemas, the list of what has run; every time
    sql/incremental/NNNN_{pre,post}_verb_object.sql  once, in order; frozen by their SHA-256 in sql/frozen.txt
    sql/idempotent/*.sql                             views and functions; all of them, when any changed

A file is one transaction, and waits for no lock longer than `online.LOCK_TIMEOUT_MS`: behind it every writer would wait as
well. What takes long is done beside the writers, in a file of its own that begins with `-- outside a transaction` (see
`online`): an index is made there before another file drops the one that it replaces.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.metadata
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from importlib import resources
from typing import NamedTuple

import asyncpg

from wafermonitor.storage.errors import SchemaTooNew, SchemaTooOld, StorageRejected, StorageUnavailable
from wafermonitor.storage.timescale import online, tier
from wafermonitor.storage.timescale.binaries import OLDEST
from wafermonitor.storage.timescale.statements import statement

LOCK = 0x77616665_72000001
"""The advisory lock of upgrades: "wafer", 1."""
IDEMPOTENT = "idempotent"
"""The row of `schema_migration` that holds the hash over all idempotent files."""
DAYS_AHEAD = 7
"""Partitions are kept up to this many days after today."""
PATIENCE_S = 600.0
"""How long a step is tried again while others use its tables."""
_PAUSE_S = 1.0
_POLL_S = 0.05
_log = logging.getLogger(__name__)
_NAME = re.compile(r"\d{4}_(pre|post)_[a-z0-9]+_[a-z0-9_]+\.sql")
_SQL = resources.files("wafermonitor.storage.timescale") / "sql"


class File(NamedTuple):
    """One SQL file of this release."""

    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """In hex."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


class Status(NamedTuple):
    """What has run (in order), what has not, and whether views and functions are of this release."""

    applied: tuple[str, ...]
    pending: tuple[str, ...]
    idempotent: bool

    @property
    def current(self) -> bool:
        """Nothing to do."""
        return not self.pending and self.idempotent


class Done(NamedTuple):
    """What an upgrade did: the incremental files that ran, and whether the idempotent ones did."""

    applied: tuple[str, ...]
    idempotent: bool


@cache
def incremental() -> tuple[File, ...]:
    """The incremental files in order. StorageRejected when one is misnamed or is not what frozen.txt says."""
    frozen = dict(_frozen())
    files = tuple(_files("incremental"))
    for file in files:
        if _NAME.fullmatch(file.name) is None:
            raise StorageRejected(f"{file.name} is no name of a migration: NNNN_{{pre,post}}_verb_object.sql")
        if frozen.get(file.name, file.sha256) != file.sha256:
            raise StorageRejected(f"{file.name} is not what frozen.txt says: a migration that was released is never edited")
    return files


@cache
def idempotent() -> tuple[File, ...]:
    """The idempotent files in order."""
    return tuple(_files("idempotent"))


def bootstrap() -> str:
    """What every upgrade begins with."""
    return (_SQL / "bootstrap.sql").read_text(encoding="utf-8")


async def status(connection: asyncpg.Connection) -> Status:
    """Where the database stands. StorageRejected when a file that ran there is not the file of that name here."""
    rows = await _ran(connection)
    for file in incremental():
        if file.name in rows and rows[file.name][0] != file.sha256:
            raise StorageRejected(
                f"the database ran another {file.name}: a program that was never released made it; start with an empty one"
            )
    pending = tuple(file.name for file in incremental() if file.name not in rows)
    applied = tuple(sorted(name for name in rows if name != IDEMPOTENT))
    return Status(applied, pending, _views_are_ours(rows))


async def check(connection: asyncpg.Connection) -> None:
    """SchemaTooOld unless the schema is this release's or a later one's; SchemaTooNew where that is later than we can use."""
    now = await status(connection)
    await _check_not_newer(connection)
    if not now.current:
        missing = ", ".join(now.pending) or "views and functions of this release"
        raise SchemaTooOld(f"the database lacks {missing}: run `wafer storage migrate`")


async def upgrade(connection: asyncpg.Connection, hot_days: int = 3) -> Done:
    """Bring the schema to this release. Several may call at once: one works, the others wait and find nothing to do.

    Each file is one transaction, so an upgrade that was killed goes on where it stopped. `hot_days` before today are ready to
    be written at the end. SchemaTooNew as `check`, StorageRejected when the server is too old or the account may not,
    StorageUnavailable when somebody uses a table for longer than `PATIENCE_S`.
    """
    _check_server(connection)
    await _lead(connection)
    try:
        async with connection.transaction():
            await connection.execute(bootstrap())
        await _check_not_newer(connection)
        now = await status(connection)
        for file in incremental():
            if file.name in now.pending:
                await _patiently(f"run {file.name}", partial(_run, connection, [file], file.name, file.sha256))
        again = not now.current
        if again:
            await _patiently("make the views", partial(run_idempotent, connection))
        if not now.applied and await tier.detect(connection) is not tier.Tier.PLAIN:
            await make_hypertables(connection)
        await _patiently("prepare days", partial(_prepare_days, connection, hot_days))
        return Done(now.pending, again)
    except asyncpg.InsufficientPrivilegeError as error:
        raise StorageRejected(
            "the account may not upgrade the schema: it must be able to create roles and schemas, or be a member of "
            "wafer_owner (let an administrator say `GRANT wafer_owner TO` it)"
        ) from error
    except asyncpg.InvalidGrantorError as error:
        raise StorageRejected(f"writers may not make temporary tables: let the owner of the database say `{error}`") from None
    finally:
        if not connection.is_closed():
            await connection.execute("SELECT pg_advisory_unlock($1)", LOCK)


async def _check_not_newer(connection: asyncpg.Connection) -> None:
    """Files named `pre` leave what older programs need; those named `post` may take it away, and older programs with it."""
    ours = {file.name for file in incremental()}
    foreign = {name: by for name, (_, by) in (await _ran(connection)).items() if "_post_" in name and name not in ours}
    if foreign:
        newest = max(foreign.values(), key=_numbers)
        raise SchemaTooNew(
            f"the database was upgraded by WaferMonitor {newest} ({', '.join(sorted(foreign))}) "
            f"and serves {release()} no more: install {newest} or later, or restore a backup from before"
        )


async def run_idempotent(connection: asyncpg.Connection) -> None:
    """Views and functions, made again."""
    await _run(connection, idempotent(), IDEMPOTENT, idempotent_sha256())


async def make_hypertables(connection: asyncpg.Connection, lock_timeout: str = "0") -> tuple[str, ...]:
    """The tables by day as hypertables, where they are native; which were made. What was stored is read as before.

    One transaction each. Raises asyncpg.LockNotAvailableError when the table is not to be had within `lock_timeout`.
    """
    names = await tier.native(connection)
    for name in names:
        async with connection.transaction():
            await connection.execute("SELECT set_config('lock_timeout', $1, true)", lock_timeout)
            await connection.execute("SET LOCAL ROLE wafer_owner")
            await connection.execute("SELECT wafer_data.make_hypertable($1)", name)
            await run_idempotent(connection)
    return names


async def _lead(connection: asyncpg.Connection) -> None:
    """Wait for the lock, but in no statement: an index that is made concurrently waits for everybody who is in one."""
    while True:
        if await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):
            return
        await asyncio.sleep(_POLL_S)


async def _prepare_days(connection: asyncpg.Connection, hot_days: int) -> None:
    today = datetime.now(UTC).date()
    oldest = today - timedelta(days=hot_days)
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = {online.LOCK_TIMEOUT_MS}")
        await connection.fetch(
            "SELECT wafer_data.keep_partitions($1, $2, $3)", oldest, today + timedelta(days=DAYS_AHEAD), oldest
        )


async def _patiently(doing: str, step: Callable[[], Awaitable[None]]) -> None:
    """`step`, again and again while somebody uses a table that it changes. `doing` completes "cannot …"."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            await step()
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            if time.monotonic() > end:
                raise StorageUnavailable(
                    f"cannot {doing} now: a session uses the table that it changes; "
                    "end that session (pg_stat_activity names it) and run `wafer storage migrate` again"
                ) from None
            _log.warning("waiting for a table that is in use, to %s", doing)
            await asyncio.sleep(_PAUSE_S)
        else:
            return


async def _run(connection: asyncpg.Connection, files: Sequence[File], name: str, sha256: str) -> None:
    for file in files:
        if file.sql.startswith(online.MARK):
            await online.run(connection, file.sql)
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = {online.LOCK_TIMEOUT_MS}")
        await connection.execute("SET LOCAL ROLE wafer_owner")
        for file in files:
            if not file.sql.startswith(online.MARK):
                await connection.execute(file.sql)
        await connection.execute(statement("note_migration"), name, sha256, release())


async def _ran(connection: asyncpg.Connection) -> dict[str, tuple[str, str]]:
    """What has run: name → (SHA-256, release that ran it)."""
    if await connection.fetchval("SELECT to_regclass('wafer_data.schema_migration') IS NULL"):
        return {}
    rows = await connection.fetch("SELECT name, sha256, release FROM wafer_data.schema_migration")
    return {row["name"]: (row["sha256"], row["release"]) for row in rows}


def _views_are_ours(rows: dict[str, tuple[str, str]]) -> bool:
    """Or a later release's, which this program can still read and write: files named `pre` see to that."""
    sha256, ran_by = rows.get(IDEMPOTENT, ("", "0"))
    return sha256 == idempotent_sha256() or _numbers(ran_by) > _numbers(release())


def idempotent_sha256() -> str:
    """Over all idempotent files, in hex."""
    return hashlib.sha256("".join(f"{file.name} {file.sha256}\n" for file in idempotent()).encode()).hexdigest()


def release() -> str:
    """Of this program."""
    return importlib.metadata.version("wafermonitor")


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", release))


def _check_server(connection: asyncpg.Connection) -> None:
    major = connection.get_server_version().major
    if major < OLDEST:
        raise StorageRejected(f"the database is PostgreSQL {major}: {OLDEST} or newer is needed")


def _files(folder: str) -> Iterator[File]:
    for path in sorted((_SQL / folder).iterdir(), key=lambda path: path.name):
        if path.name.endswith(".sql"):
            yield File(path.name, path.read_text(encoding="utf-8"))


def _frozen() -> Iterator[tuple[str, str]]:
    """(file name, SHA-256) of each line of frozen.txt."""
    for line in (_SQL / "frozen.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            sha256, name = line.split()
            yield name, sha256
