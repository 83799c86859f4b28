"""The API answers for archived days as for all others: the same lists, and pages that walk over the boundary."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from tests.servers import postgres as server
from tests.storage.archive import history
from tests.storage.contract.builders import DAY, ended
from wafermonitor.query.app import create_app
from wafermonitor.query.config import Config
from wafermonitor.query.sources import archive
from wafermonitor.runs.records import Batch
from wafermonitor.storage import memory
from wafermonitor.storage.archive.config import Config as ArchiveConfig
from wafermonitor.storage.archive.protocol import day_of
from wafermonitor.storage.config import Config as StorageConfig
from wafermonitor.storage.connect import connect

pytestmark = pytest.mark.postgres
YOUNG = history.TODAY - 2 * DAY
LISTS = (
    "/v1/spans",
    "/v1/spans?app=yield&site=f1",
    "/v1/jobs?subjobs=any",
    "/v1/jobs?order=failing&subjobs=any",
    "/v1/subjobs",
)


@pytest.fixture(scope="module")
def postgres():
    if why := server.missing():
        pytest.skip(why)
    running = server.start()
    yield running
    running.stop()


@pytest.fixture
async def stored(postgres):
    storage = await connect(StorageConfig(dsn=SecretStr(postgres.migrated())))
    await history.fill(storage.pool)
    await storage.writer.write([history.batch("f1", YOUNG, 200)])
    yield storage
    await storage.close()


@pytest.fixture
def folder():
    made = Path(tempfile.mkdtemp(prefix="wafer-archive-", dir=server.room()))
    yield made
    shutil.rmtree(made)


def api(storage):
    transport = httpx.ASGITransport(create_app(storage, Config()))
    return httpx.AsyncClient(transport=transport, base_url="http://api")


async def walk(client, address, limit):
    found, address = [], f"{address}{'&' if '?' in address else '?'}limit={limit}"
    while address:
        page = await client.get(address)
        assert page.status_code == 200, page.text
        found += page.json()["items"]
        address = page.links.get("next", {}).get("url")
    return found


def of_runs():
    runs = [history.history()[0].runs[7], history.batch("f1", YOUNG, 200).runs[7]]
    return [f"/v1/jobs/{run.key.id}/{part}" for run in runs for part in ("spans", "logs")]


async def test_lists_and_their_pages_do_not_change_when_days_leave(stored, folder):
    async with api(stored) as client:
        before = {path: await walk(client, path, 9) for path in (*LISTS, *of_runs())}
    assert all(before[path] for path in ("/v1/spans", *of_runs()))
    done = await history.archive(stored.pool, folder)
    assert len(done.dropped) >= 6
    async with api(stored) as client:
        assert len(await walk(client, "/v1/spans", 9)) < len(before["/v1/spans"])
    async with api(await archive.attach(stored, ArchiveConfig.load(folder=folder))) as client:
        for path, items in before.items():
            assert await walk(client, path, 9) == items, path


async def test_pages_of_runs_walk_over_the_month_that_has_left(stored, folder):
    later = history.NOW + 45 * DAY
    await stored.pool.execute("SELECT wafer_data.keep_partitions($1::date, $1::date, $1::date)", day_of(later))
    young = [ended(900 + number, site="f1", start_ns=later - DAY + number, end_ns=later) for number in range(12)]
    await stored.writer.write([Batch(runs=young)])
    lists = [path for path in LISTS if "jobs" in path]
    async with api(stored) as client:
        before = {path: await walk(client, path, 9) for path in lists}
    done = await history.archive(stored.pool, folder, later, hot_run_days=1)
    assert any(name.startswith("runs") for name in done.dropped)
    async with api(stored) as client:
        assert len(await walk(client, lists[0], 9)) == len(young)
    async with api(await archive.attach(stored, ArchiveConfig.load(folder=folder))) as client:
        for path, items in before.items():
            assert await walk(client, path, 9) == items, path


async def test_the_series_of_a_run_over_the_boundary_stay_whole(stored, folder):
    run = ended(950, site="f1", start_ns=history.OLD[1], end_ns=YOUNG + DAY)
    await stored.writer.write([Batch(runs=[run])])
    path = f"/v1/jobs/{run.key.id}/metrics"
    async with api(stored) as client:
        before = (await client.get(path)).json()["items"]
    assert sum(len(series["points"]) for series in before) == 2 * history.ROWS
    await history.archive(stored.pool, folder)
    async with api(stored) as client:
        left = (await client.get(path)).json()["items"]
        assert sum(len(series["points"]) for series in left) == history.ROWS
    async with api(await archive.attach(stored, ArchiveConfig.load(folder=folder))) as client:
        assert (await client.get(path)).json()["items"] == before


async def test_a_list_over_too_many_files_is_refused_with_what_to_do(stored, folder):
    await history.archive(stored.pool, folder)
    async with api(await archive.attach(stored, ArchiveConfig.load(folder=folder, max_files=1))) as client:
        answer = await client.get("/v1/spans?limit=1000")
        assert answer.status_code == 400
        assert "narrow" in answer.json()["detail"]


async def test_a_file_that_is_gone_is_no_fault_of_who_asks(stored, folder):
    await history.archive(stored.pool, folder)
    shutil.rmtree(folder / "signal=spans")
    async with api(await archive.attach(stored, ArchiveConfig.load(folder=folder))) as client:
        answer = await client.get("/v1/spans?limit=1000")
        assert answer.status_code == 503
        assert str(folder) not in answer.text


async def test_a_store_that_no_day_can_leave_stays_as_it_is():
    storage = memory.Storage()
    assert await archive.attach(storage, ArchiveConfig.load()) is storage
