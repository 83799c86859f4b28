"""One site for all flow tests; the faults start sites of their own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flow.site import Site
from wafermonitor.collector.errors import CollectorError
from wafermonitor.deploy.demo import collector_in_use


def site_folder(root: Path) -> Path:
    """A folder that the account of a root's PostgreSQL may pass through."""
    for folder in (root, *root.parents):
        if folder.name.startswith("pytest-"):
            folder.chmod(folder.stat().st_mode | 0o011)
    root.chmod(0o711)
    return root


@pytest.fixture(scope="session")
def collector() -> None:
    """A Collector is at hand, else the tests that need it are skipped with the reason."""
    try:
        collector_in_use()
    except CollectorError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def site(collector: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = site_folder(tmp_path_factory.mktemp("site"))
    running = Site.start(folder)
    yield running
    running.stop()
    shutil.rmtree(folder, ignore_errors=True)
