"""One site for all flow tests; the faults start sites of their own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.flow.site import Site
from wafermonitor.collector.errors import CollectorError
from wafermonitor.deploy.demo import collector_in_use, work_folder


@pytest.fixture(scope="session")
def soak() -> bool:
    """Whether faults and the canary run at full length (`make soak`)."""
    return bool(os.environ.get("WAFER_TEST_SOAK"))


@pytest.fixture(scope="session")
def collector() -> None:
    """A Collector is at hand, else the tests that need it are skipped with the reason."""
    try:
        collector_in_use()
    except CollectorError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def site(collector: None) -> Iterator[Site]:
    with work_folder("wafer-site-") as (folder, _):
        running = Site.start(folder)
        yield running
        running.stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """A failed test shows what the services printed last."""
    report = yield
    running = getattr(item, "funcargs", {}).get("site")
    if report.failed and isinstance(running, Site):
        report.sections.append(("What the site's services printed last", "\n".join(running.lines[-40:])))
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One worker runs all tests that share the site; those that start parts of their own go where there is room.

    At full length a test may take an hour, whatever limit it has otherwise.
    """
    for item in items:
        if "tests/flow" in item.path.as_posix():
            shared = "site" in getattr(item, "fixturenames", ())
            item.add_marker(pytest.mark.xdist_group("site" if shared else item.path.stem))
            if os.environ.get("WAFER_TEST_SOAK"):
                item.add_marker(pytest.mark.timeout(3600), append=False)
