"""One door to every engine: memory, an operator's server, the embedded one."""

from __future__ import annotations

import asyncio
import builtins
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.servers import postgres as server
from tests.storage.contract import builders
from wafermonitor.runs.records import Batch
from wafermonitor.storage import memory
from wafermonitor.storage.config import Config
from wafermonitor.storage.connect import connect
from wafermonitor.storage.errors import SchemaTooOld, StorageRejected, StorageUnavailable
from wafermonitor.storage.protocol import SpanQuery
from wafermonitor.storage.timescale import account
from wafermonitor.storage.timescale.folder import Folder
from wafermonitor.storage.timescale.store import Storage

BATCHES = [Batch(spans=[builders.span()])]


@pytest.fixture
def embedded(home: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Settings that name no server, with a data home of their own."""
    for name in ("WAFER_STORAGE_DSN", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return Config.load(data_dir=home)


async def test_memory_is_opened_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def bare(name: str, *rest: Any, **named: Any) -> Any:
        if name.partition(".")[0] == "asyncpg":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", bare)
    store = await connect(Config.load(dsn="memory://"))
    assert isinstance(store, memory.Storage)


@pytest.mark.postgres
async def test_two_stores_on_one_server_see_each_others_rows(postgres: server.Server) -> None:
    config = Config.load(dsn=postgres.migrated())
    one, two = await connect(config), await connect(config)
    await one.writer.write(BATCHES)
    assert (await two.reader.spans(SpanQuery(trace_id=builders.TRACE))).items == BATCHES[0].spans
    await one.close()
    await two.close()


@pytest.mark.postgres
async def test_embedded_store_is_migrated_survives_kill_9_of_its_server_and_stops_it(embedded: Config) -> None:
    store = await connect(embedded)
    assert isinstance(store, Storage)
    assert store.server is not None
    await store.writer.write(BATCHES)
    os.kill(store.server.pid or 0, signal.SIGKILL)
    async with asyncio.timeout(60):
        while True:
            try:
                await store.writer.write(BATCHES)  # a redelivery: stored once
                found = (await store.reader.spans(SpanQuery(trace_id=builders.TRACE))).items
                break
            except StorageUnavailable:
                await asyncio.sleep(0.02)
    assert found == BATCHES[0].spans
    await store.close()
    assert not Folder(embedded.data_dir, account.choose()).processes()


@pytest.mark.postgres
async def test_embedded_store_that_may_not_be_migrated_is_refused_and_leaves_nothing_running(embedded: Config) -> None:
    with pytest.raises(SchemaTooOld):
        await connect(embedded, migrate=False)
    folder = Folder(embedded.data_dir, account.choose())
    assert not folder.processes()
    lock = folder.lock()
    assert lock is not None
    os.close(lock)


async def test_missing_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def bare(name: str, *rest: Any, **named: Any) -> Any:
        if name == "wafermonitor.storage.timescale":
            raise ModuleNotFoundError("No module named 'asyncpg'", name="asyncpg")
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", bare)
    with pytest.raises(StorageRejected, match=r"wafermonitor\[timescale\]"):
        await connect(Config.load(dsn="postgresql://127.0.0.1:1/wafer"))
