"""Fixtures of the store: one PostgreSQL for the session, and data homes that its account can reach."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import clickhouse as clickhouse_server
from tests.servers import postgres as server
from tests.servers import timescaledb
from tests.servers.databases import Databases
from wafermonitor.storage.timescale import embedded
from wafermonitor.storage.timescale.session import open_session

FAST = {"fsync": "off", "shared_buffers": "32MB"}
"""Settings of embedded servers whose data nobody will miss."""


@pytest.fixture(scope="session")
def postgres() -> Iterator[Databases]:
    """A running PostgreSQL; `postgres.migrated()` is a database with the whole schema.

    `WAFER_TEST_STORE` names another than the embedded one: `apache` is TimescaleDB from Debian packages, `community` the server
    that WAFER_TEST_TSL_DSN names.
    """
    kind = os.environ.get("WAFER_TEST_STORE", "plain")
    why = {"plain": server.missing, "apache": timescaledb.missing, "community": timescaledb.missing_given}[kind]()
    if why is not None:
        pytest.skip(why)
    running = {"plain": server.start, "apache": timescaledb.start, "community": timescaledb.given}[kind]()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def clickhouse() -> Iterator[clickhouse_server.Server]:
    """A running ClickHouse; `clickhouse.database()` is the address of a database that is not there yet."""
    why = clickhouse_server.missing()
    if why is not None:
        pytest.skip(why)
    running = clickhouse_server.start()
    yield running
    running.stop()


@pytest.fixture
def data_home() -> Iterator[Path]:
    """A data home that does not exist yet, where every account may pass through (pytest's own folder is closed to others)."""
    parent = Path(tempfile.mkdtemp(prefix="wafer-home-", dir=server.room()))
    parent.chmod(0o711)
    yield parent / "wafermonitor"
    shutil.rmtree(parent)


@pytest.fixture(scope="session")
def _made() -> Iterator[Path]:
    """A data home that was started once and stopped: tests copy it rather than make it anew."""
    why = server.missing()
    if why is not None:
        pytest.skip(why)
    home = Path(tempfile.mkdtemp(prefix="wafer-made-", dir=server.room()))
    home.chmod(0o711)

    async def once() -> None:
        running = await embedded.start(home, settings=FAST)
        async with open_session(running.dsn) as connection:
            await connection.execute("CREATE TABLE kept (i int); INSERT INTO kept VALUES (1)")
        await running.stop()

    asyncio.run(once())
    yield home
    shutil.rmtree(home)


@pytest.fixture
def home(_made: Path, data_home: Path) -> Path:
    """A data home with the table `kept`, whose server does not run."""
    data_home.mkdir(mode=0o711)
    # cp keeps owners, which shutil does not.
    subprocess.run(["cp", "-a", *(str(path) for path in _made.glob("postgres*")), str(data_home)], check=True)
    if (_made / "binaries").exists():
        (data_home / "binaries").symlink_to(_made / "binaries")
    return data_home
