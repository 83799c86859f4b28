"""Collectors and servers are there before the clock of a test begins: the first time, they are fetched or built."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.backends import proof
from tests.servers import collector
from wafermonitor.collector.errors import BinaryRejected

TIMEOUT_S = 300
LARGER = "kafka"
"""A backend whose parts are only in the larger Collector."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What a test may take is counted without its fixtures."""
    for item in items:
        if not item.path.is_relative_to(Path(__file__).parent):
            continue
        if item.get_closest_marker("servers"):
            item.add_marker(pytest.mark.timeout(TIMEOUT_S, func_only=True), append=False)
        if item.get_closest_marker("collector"):
            item.add_marker(pytest.mark.usefixtures("at_hand"))


@pytest.fixture(scope="session")
def at_hand() -> None:
    """The Collectors are found or built; the tests are skipped, with the reason, where there is none and none can be built."""
    reason = collector.missing()
    if reason is not None:
        pytest.skip(reason)
    with suppress(BinaryRejected):  # without Go only what needs the larger one fails, and says so
        collector.prepare((LARGER,))


@pytest.fixture(autouse=True)
def _count(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a proof counted goes into the test's report."""
    proof.counted.clear()
    yield
    request.node.user_properties += [("proof", told) for told in proof.counted]
