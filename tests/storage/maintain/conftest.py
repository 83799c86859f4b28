"""An opened store on a new database, and an archive that is off unless a test wants it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.servers.postgres import Server
from wafermonitor.storage.archive.config import Config as ArchiveConfig
from wafermonitor.storage.config import Config as StorageConfig
from wafermonitor.storage.connect import connect
from wafermonitor.storage.maintain.config import Config
from wafermonitor.storage.timescale.store import Storage

collect_ignore = [] if os.environ.get("WAFER_TEST_STORE", "plain") == "plain" else ["test_strays.py"]


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for prefix, config in (("STORAGE", StorageConfig), ("ARCHIVE", ArchiveConfig), ("MAINTAIN", Config)):
        for field in config.model_fields:
            monkeypatch.delenv(f"WAFER_{prefix}_{field.upper()}", raising=False)
    for name in ("WAFER_CONFIG", "DATABASE_URL", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WAFER_ARCHIVE_ENABLED", "false")
    monkeypatch.setenv("WAFER_ARCHIVE_FOLDER", str(tmp_path / "archive"))
    monkeypatch.setenv("WAFER_ARCHIVE_HOT_HOURS", "72")  # also where the store's edition would keep days for longer
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def dsn(postgres: Server) -> Iterator[str]:
    """A database of this test's own."""
    made = postgres.migrated()
    yield made
    postgres.drop(made)


@pytest.fixture
async def store(dsn: str) -> AsyncIterator[Storage]:
    """The store on it; maintenance every 10 ms."""
    opened = await connect(StorageConfig.load(dsn=dsn, maintain_interval_s=0.01, rollup_interval_s=0.01))
    assert isinstance(opened, Storage)
    yield opened
    await opened.close()
