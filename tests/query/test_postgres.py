"""The same answers from a real PostgreSQL."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from pydantic import SecretStr

from tests.query import world
from tests.servers import postgres as server
from tests.servers.fixtures import running
from wafermonitor.query.app import create_app
from wafermonitor.query.config import Config
from wafermonitor.query.stream import Hub, Selection
from wafermonitor.query.telemetry import Meters
from wafermonitor.runs.records import Batch
from wafermonitor.storage import memory
from wafermonitor.storage.config import Config as StorageConfig
from wafermonitor.storage.connect import connect

pytestmark = pytest.mark.postgres

QUESTIONS = [
    "/v1/jobs",
    "/v1/jobs?subjobs=any&limit=2",
    "/v1/jobs?order=failing&subjobs=any",
    "/v1/jobs?format=csv",
    "/v1/jobs?attr=wafer.param.dies:1569",
    "/v1/jobs?q=gal-&lot=GAL-LOT",
    "/v1/jobs?min_duration=5m",
    f"/v1/subjobs?parent={world.id_of(1, 1)}",
    "/v1/spans?app=yield",
    f"/v1/jobs/{world.id_of(1, 1)}",
    f"/v1/jobs/{world.id_of(2, 1)}",
    f"/v1/jobs/{world.id_of(3, 1)}",
    f"/v1/jobs/{world.id_of(4, 3)}",
    f"/v1/jobs/{world.id_of(1, 1)}/tree",
    f"/v1/jobs/{world.id_of(4, 1)}/tree",
    f"/v1/jobs/{world.id_of(1, 1)}/spans",
    f"/v1/jobs/{world.id_of(1, 3)}/spans",
    f"/v1/jobs/{world.id_of(1, 1)}/logs",
    f"/v1/jobs/{world.id_of(1, 1)}/logs?severity=error",
    f"/v1/jobs/{world.id_of(1, 1)}/metrics",
]
MOVING = {"duration_s", "server_time", "state", "overdue", "lag_s", "behind", "completeness"}
"""What depends on now, which PostgreSQL reads from its own clock."""


@pytest.fixture(scope="module")
def postgres():
    yield from running(server)


@pytest.fixture
async def stored(postgres):
    storage = await connect(StorageConfig(dsn=SecretStr(postgres.migrated())))
    await world.fill(storage.writer)
    yield storage
    await storage.close()


def still(value):
    if isinstance(value, dict):
        return {name: still(inner) for name, inner in value.items() if name not in MOVING and not name.endswith("cursor")}
    return [still(inner) for inner in value] if isinstance(value, list) else value


async def test_it_answers_as_the_memory_engine_does(stored):
    plain = memory.Storage()
    await world.fill(plain.writer)
    answers = []
    for storage in (plain, stored):
        transport = httpx.ASGITransport(create_app(storage, Config()))
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as api:
            found = {}
            for question in QUESTIONS:
                answer = await api.get(question)
                assert answer.status_code == 200, (question, answer.text)
                found[question] = len(answer.text.splitlines()) if "csv" in question else still(answer.json())
            answers.append(found)
    for question in QUESTIONS:
        assert answers[1][question] == answers[0][question], question


async def test_sites_apps_and_readiness(stored):
    transport = httpx.ASGITransport(create_app(stored, Config()))
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as api:
        assert [site["site"] for site in (await api.get("/v1/sites")).json()["items"]] == ["fab1", "fab2"]
        assert {app["service"] for app in (await api.get("/v1/apps")).json()["items"]} >= {"yield"}
        assert (await api.get("/readyz")).json()["engine"] != "memory"


async def test_pages_of_every_list_hold_each_row_once(stored):
    transport = httpx.ASGITransport(create_app(stored, Config()))
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as api:
        for path in ("/v1/jobs?subjobs=any", "/v1/jobs?subjobs=any&order=failing", f"/v1/jobs/{world.id_of(1, 1)}/spans"):
            whole = [item["run"] for item in (await api.get(path)).json()["items"]]
            walked, address = [], f"{path}{'&' if '?' in path else '?'}limit=1"
            while address:
                page = await api.get(address)
                walked += [item["run"] for item in page.json()["items"]]
                address = page.links.get("next", {}).get("url")
            assert walked == whole


async def test_a_foreign_cursor_is_refused(stored):
    transport = httpx.ASGITransport(create_app(stored, Config()))
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as api:
        for cursor in ("zzz", "W10", "WzFd", "bnVsbA", "eyJhIjoxfQ", "Wy0xLCAiMDAiLCAiMDAiLCAiZiJd", "WyJ4IiwgWzFdXQ"):
            for path in ("/v1/jobs", "/v1/spans", f"/v1/jobs/{world.id_of(1, 1)}/logs", f"/v1/jobs/{world.id_of(1, 1)}/spans"):
                answer = await api.get(path, params={"cursor": cursor})
                assert answer.status_code == 400, (path, cursor, answer.text)
                assert answer.json()["errors"][0]["parameter"] == "cursor"


async def test_the_stream_resumes_from_its_token(stored, clock):
    hub = Hub(stored.reader, Config(stream_poll_s=0.02), Meters(), clock)
    selection = Selection(frozenset(), frozenset({"streamed"}), frozenset())
    try:
        stream = await hub.open(None, selection)
        hello = await anext(stream.events)
        await stored.writer.write([Batch(runs=[world.run(50, 1, start_s=0, job="streamed")])])
        async with asyncio.timeout(10):
            while "event: run" not in (text := await anext(stream.events)):
                pass
        assert world.id_of(50, 1) in text
        stream.close()
        token = next(line[4:] for line in hello.splitlines() if line.startswith("id: "))
        resumed = await hub.open(token, selection)
        texts = []
        async with asyncio.timeout(10):
            while world.id_of(50, 1) not in "".join(texts):
                texts.append(await anext(resumed.events))
        assert '"resumed":true' in texts[0]
    finally:
        await hub.close()
