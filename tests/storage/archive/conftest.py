"""A new database with the schema, its pool, and an empty folder for the archive."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from tests.servers import postgres as server
from tests.servers.postgres import Server
from tests.storage.archive import history


@pytest.fixture
def dsn(postgres: Server) -> Iterator[str]:
    """A database of this test's own."""
    made = postgres.migrated()
    yield made
    postgres.drop(made)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Empty, in memory where there is room: every file is synced."""
    made = Path(tempfile.mkdtemp(prefix="wafer-archive-", dir=server.room()))
    yield made
    shutil.rmtree(made)


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[asyncpg.Pool]:
    """Connections to it, as the store has them."""
    async with history.opened(dsn) as opened:
        yield opened
