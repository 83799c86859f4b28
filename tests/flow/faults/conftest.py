"""What the faults start and share: a PostgreSQL whose commits outlive it, and chains of real parts on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.flow.faults.chain import Chain
from tests.servers import collector as collectors
from tests.servers import postgres as server
from tests.servers.fixtures import running

DURABLE = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "autovacuum": "on", "shared_buffers": "128MB"}


@pytest.fixture(scope="session")
def durable() -> Iterator[server.Server]:
    """A PostgreSQL as it would run at a site, in memory where there is room."""
    yield from running(server, settings=DURABLE)


@pytest.fixture(scope="session")
def stock_collector() -> None:
    """A Collector is at hand, else the tests that need one are skipped with the reason."""
    why = collectors.missing()
    if why is not None:
        pytest.skip(why)
    collectors.prepare()


@pytest.fixture
def chain_of(durable: server.Server, stock_collector: None) -> Iterator[Callable[..., Chain]]:
    """Start chains on databases of their own; they are stopped when the test ends."""
    with ExitStack() as parts:

        def start(**wishes: Any) -> Chain:
            chain = Chain.start(durable, **wishes)
            parts.callback(chain.stop)
            return chain

        yield start
