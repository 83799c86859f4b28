"""Databases of one running PostgreSQL for tests: new ones, with or without the schema, and what psql answers.

In: the bin folder of a psql, and addresses. Out: DSNs. Called by: `postgres`, `timescaledb`, which start the servers.

    dsn = server.migrated()          # a new database with the whole schema: postgresql://…/test_2
    empty = server.database()        # a new database without
    copy = server.database(template=dsn)   # a copy of one that nobody is connected to

All calls block, and may be made inside a running loop.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from wafermonitor.storage.timescale import migrate
from wafermonitor.storage.timescale.session import open_session

DEADLINE_S = 60.0


class Databases:
    """Databases on a server that runs. A server says with which psql (`_psql`) and at which address (`dsn_of`)."""

    extension = False
    """Whether a database with the schema has TimescaleDB."""
    _psql: Path

    _numbers = itertools.count(1)
    """One for all servers of a process: two of them may be the same one, which was given."""

    def __init__(self) -> None:
        self._template: str | None = None

    def dsn_of(self, name: str) -> str:
        """The address of the database `name`, as superuser."""
        raise NotImplementedError

    @property
    def dsn(self) -> str:
        """The server's own database, as superuser."""
        return self.dsn_of("postgres")

    def database(self, template: str | None = None) -> str:
        """A new database, empty or a copy of the one that the DSN `template` names; its DSN."""
        # The process id: some servers are not ours alone.
        name = f"wafer_test_{os.getpid()}_{next(self._numbers)}"
        source = urlsplit(template).path.removeprefix("/") if template else "template0"
        self.psql(f'CREATE DATABASE "{name}" TEMPLATE "{source}" STRATEGY = file_copy')
        return self.dsn_of(name)

    def extended(self) -> str:
        """A new empty database, with TimescaleDB where the server has it; its DSN."""
        dsn = self.database()
        if self.extension:
            self.psql("CREATE EXTENSION timescaledb", dsn)
        return dsn

    def migrated(self) -> str:
        """A new database with the schema of this release; its DSN."""
        if self._template is None:
            dsn = self.extended()
            # A thread of its own: the caller's may have a running loop.
            with ThreadPoolExecutor(1) as pool:
                pool.submit(asyncio.run, _upgrade(dsn)).result(DEADLINE_S)
            self._close(dsn)
            self._template = dsn
        return self.database(template=self._template)

    def login(self, dsn: str, name: str, password: str) -> str:
        """The address of the same database for another account."""
        parts = urlsplit(dsn)
        return urlunsplit(parts._replace(netloc=f"{name}:{password}@{parts.hostname}:{parts.port}"))

    def drop(self, dsn: str) -> None:
        """Give back the room of a database that `database()` or `migrated()` made; ends who is still connected."""
        self.psql(f'DROP DATABASE "{urlsplit(dsn).path.removeprefix("/")}" WITH (FORCE)')

    def program(self, name: str) -> str:
        """The path of one of PostgreSQL's programs, of the version that psql has."""
        return str(self._psql.parent / name)

    def psql(self, sql: str, dsn: str | None = None) -> str:
        """What `sql` answers, unaligned and without headers."""
        words = [str(self._psql), "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", dsn or self.dsn, "-f", "-"]
        # Not as an argument, of which there may be no more than 128 KiB.
        done = subprocess.run(words, input=sql, capture_output=True, text=True, check=False, timeout=DEADLINE_S)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip())
        return done.stdout.strip()

    def _close(self, dsn: str) -> None:
        """Let nobody in any more: TimescaleDB keeps a worker in each open database, and a template must be left alone."""
        if self.extension:
            name = urlsplit(dsn).path.removeprefix("/")
            self.psql(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
            self.psql(f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = '{name}'")


async def _upgrade(dsn: str) -> None:
    async with open_session(dsn) as connection:
        await migrate.upgrade(connection)
