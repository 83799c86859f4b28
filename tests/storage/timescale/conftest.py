"""A new database with the schema, and the PostgreSQL engine on it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.servers.postgres import Server
from tests.storage.engines import Engine, on_postgres


@pytest.fixture
def dsn(postgres: Server) -> str:
    """A database of this test's own."""
    return postgres.migrated()


@pytest.fixture
async def store(dsn: str) -> AsyncIterator[Engine]:
    """The engine on it."""
    async with on_postgres(dsn) as opened:
        yield opened
