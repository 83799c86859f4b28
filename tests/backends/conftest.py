"""The Collectors that these tests run are there before the first test's clock begins."""

from __future__ import annotations

import pytest

from tests.servers import collector


@pytest.fixture(scope="session", autouse=True)
def at_hand() -> None:
    """A Collector is found or built; the tests are skipped, with the reason, where there is none and none can be built."""
    reason = collector.missing()
    if reason is not None:
        pytest.skip(reason)
    collector.prepare()
