"""Fixtures of the store: one PostgreSQL for the session, and data homes that its account can reach."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import postgres as server


@pytest.fixture(scope="session")
def postgres() -> Iterator[server.Server]:
    """A running PostgreSQL; `postgres.migrated()` is a database with the whole schema."""
    why = server.missing()
    if why is not None:
        pytest.skip(why)
    running = server.start()
    yield running
    running.stop()


@pytest.fixture
def data_home() -> Iterator[Path]:
    """A data home that does not exist yet, where every account may pass through (pytest's own folder is closed to others)."""
    parent = Path(tempfile.mkdtemp(prefix="wafer-home-"))
    parent.chmod(0o711)
    yield parent / "wafermonitor"
    shutil.rmtree(parent)
