"""Fixtures of alerting: one PostgreSQL for the session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import postgres as server
from tests.servers.fixtures import running


@pytest.fixture(scope="session")
def postgres() -> Iterator[server.Server]:
    """A running PostgreSQL; `postgres.migrated()` is a database with the whole schema."""
    yield from running(server)
