"""A new database with the schema, and the PostgreSQL engine on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.servers.databases import Databases
from tests.storage.engines import Engine, on_postgres


@pytest.fixture
def dsn(postgres: Databases) -> Iterator[str]:
    """A database of this test's own."""
    made = postgres.migrated()
    yield made
    postgres.drop(made)


@pytest.fixture
async def store(dsn: str) -> AsyncIterator[Engine]:
    """The engine on it."""
    async with on_postgres(dsn) as opened:
        yield opened
