"""One suite, every engine: a test that takes `engine` runs on memory, PostgreSQL and ClickHouse, and must see the same."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.storage.engines import Engine, copying, in_memory, on_clickhouse, on_postgres


@pytest.fixture(
    params=[
        "memory",
        *(pytest.param(name, marks=pytest.mark.postgres) for name in ("postgres", "postgres by rows")),
        *(
            pytest.param(name, marks=[pytest.mark.servers, pytest.mark.xdist_group("clickhouse"), pytest.mark.timeout(600)])
            for name in ("clickhouse", "clickhouse by rows")
        ),
    ]
)
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    """Each engine in turn; those with a database twice, because their writers take records, and rows that are ready."""
    if request.param == "memory":
        yield in_memory()
        return
    by_rows = copying if "rows" in request.param else lambda store: store
    if "clickhouse" in request.param:
        async with on_clickhouse(request.getfixturevalue("clickhouse").database()) as store:
            yield by_rows(store)
        return
    postgres = request.getfixturevalue("postgres")
    dsn = postgres.migrated()
    async with on_postgres(dsn) as store:
        yield by_rows(store)
    postgres.drop(dsn)
