"""One suite, every engine: a test that takes `engine` runs on memory and on PostgreSQL, and must see the same."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.storage.engines import Engine, in_memory, on_postgres


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.postgres)])
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    """Each engine in turn."""
    if request.param == "memory":
        yield in_memory()
        return
    postgres = request.getfixturevalue("postgres")
    dsn = postgres.migrated()
    async with on_postgres(dsn) as store:
        yield store
    postgres.drop(dsn)
