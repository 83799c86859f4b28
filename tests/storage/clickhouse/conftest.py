"""A ClickHouse store for each test of this folder."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.servers import clickhouse as server
from tests.storage.engines import Engine, on_clickhouse


@pytest.fixture
async def store(clickhouse: server.Server) -> AsyncIterator[Engine]:
    """An empty store."""
    async with on_clickhouse(clickhouse.database()) as engine:
        yield engine
