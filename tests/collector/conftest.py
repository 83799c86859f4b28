"""The Collector that these tests run, and one that is running."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.servers import collector
from wafermonitor.collector.binary import Binary


@pytest.fixture(scope="session")
def found() -> Binary:
    """A Collector that fits; the test is skipped where there is none and none can be built."""
    reason = collector.missing()
    if reason is not None:
        pytest.skip(reason)
    return collector.prepare()


@pytest.fixture
def start(found: Binary) -> Iterator[Callable[..., collector.Server]]:
    """`collector.start`, with every server stopped at the end of the test."""
    del found
    running = []

    def begin(*args: object, **kwargs: object) -> collector.Server:
        running.append(collector.start(*args, **kwargs))  # type: ignore[arg-type]  # passed on as given
        return running[-1]

    yield begin
    for server in running:
        server.stop()
