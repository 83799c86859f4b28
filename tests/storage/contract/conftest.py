"""One suite, every engine: a test that takes `engine` runs on memory, PostgreSQL and ClickHouse, and must see the same."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.storage.engines import Engine, copying, in_memory, on_clickhouse, on_postgres


@pytest.fixture(
    params=[
        "memory",
        *(pytest.param(name, marks=pytest.mark.postgres) for name in ("postgres", "postgres by rows")),
        pytest.param(
            "clickhouse", marks=[pytest.mark.servers, pytest.mark.xdist_group("clickhouse"), pytest.mark.timeout(600)]
        ),
    ]
)
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    """Each engine in turn; PostgreSQL twice, because a writer takes records and rows that are ready to be copied."""
    if request.param == "memory":
        yield in_memory()
        return
    if request.param == "clickhouse":
        async with on_clickhouse(request.getfixturevalue("clickhouse").database()) as store:
            yield store
        return
    postgres = request.getfixturevalue("postgres")
    dsn = postgres.migrated()
    async with on_postgres(dsn) as store:
        yield copying(store) if "rows" in request.param else store
    postgres.drop(dsn)
