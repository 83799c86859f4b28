"""The same answers from a real PostgreSQL."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from pydantic import SecretStr

from tests.query import lots, watched, world
from tests.query.listening import listen
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


WATCHED = [
    "/v1/alerts",
    "/v1/alerts?open=true&severity=warning&severity=critical",
    f"/v1/alerts?run={world.id_of(2, 1)}",
    f"/v1/alerts/{watched.OPEN}",
    f"/v1/alerts/{watched.TAKEN}/explain",
    "/v1/expectations",
    "/v1/expected-runs",
    "/v1/expected-runs?state=met&job=lot_yield",
    f"/v1/jobs/{world.id_of(500, 1)}/explain",
    f"/v1/jobs/{world.id_of(501, 1)}/explain",
    f"/v1/jobs/{world.id_of(501, 12)}/explain",
]
STAMPED = {"silenced_until", "evaluated_at", "acknowledged", "changed", "since"}
"""What the store stamps with its own clock."""


def unstamped(value):
    if isinstance(value, dict):
        return {name: unstamped(inner) for name, inner in value.items() if name not in STAMPED}
    return [unstamped(inner) for inner in value] if isinstance(value, list) else value


@pytest.fixture
async def watched_store(stored):
    """The only test of this file that keeps alerts there fills it."""
    await stored.writer.write(
        [Batch(runs=[*lots.usual(30), *lots.lot(500, 0.0, fails=2), *lots.lot(501, 60.0, slow=(2, 900))])]
    )
    await watched.fill(stored.watch)
    return stored


async def test_alerts_and_explanations_are_those_of_the_memory_engine(watched_store, clock):
    plain = memory.Storage(clock=clock)
    await world.fill(plain.writer)
    await plain.writer.write([Batch(runs=[*lots.usual(30), *lots.lot(500, 0.0, fails=2), *lots.lot(501, 60.0, slow=(2, 900))])])
    await watched.fill(plain.watch)
    answers = []
    for storage in (plain, watched_store):
        transport = httpx.ASGITransport(create_app(storage, Config(), clock=clock))
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as api:
            found = {}
            for question in WATCHED:
                answer = await api.get(question)
                assert answer.status_code == 200, (question, answer.text)
                found[question] = unstamped(still(answer.json()))
            answers.append(found)
            for path in ("/v1/alerts", "/v1/expected-runs"):
                whole = [item["nominal" if "runs" in path else "id"] for item in (await api.get(path)).json()["items"]]
                first = await api.get(path, params={"limit": 2})
                second = await api.get(first.links["next"]["url"])
                items = first.json()["items"] + second.json()["items"]
                assert [item["nominal" if "runs" in path else "id"] for item in items] == whole
                assert (await api.get(path, params={"cursor": "WzFd"})).status_code == 400
            await changes(api)
    for question in WATCHED:
        assert answers[1][question] == answers[0][question], question


async def changes(api):
    """Every change is taken, and seen in the answers."""
    assert (await api.post(f"/v1/alerts/{watched.OPEN}/acknowledge", json={"by": "bo"})).json()["acknowledged_by"] == "bo"
    assert (await api.post("/v1/expectations/weekly/accept", json={"by": "bo"})).json()["origin"] == "api"
    assert (await api.post("/v1/expectations/weekly/decline", json={"by": "bo"})).status_code == 200
    assert (await api.post("/v1/expectations/hourly/decline", json={"by": "bo"})).status_code == 409
    refused = await api.post("/v1/silences", json={"by": "bo", "why": "x", "until": "2100-01-01", "rule": "late"})
    assert refused.json()["detail"].startswith("until: expected a time after now and within a year")


async def test_alerts_are_told_on_the_stream_and_made_up_for(stored, clock):
    hub = Hub(stored.reader, Config(stream_poll_s=0.02, stream_alerts_s=0.02), Meters(), clock, stored.watch)
    try:
        first, _ = await listen(hub)
        start = first.id
        await watched.store(stored.watch, alerts=[watched.alert(f"{70:032x}", fingerprint="70")])
        assert (await first.alert())["id"] == f"{70:032x}"
        first.close()
        await stored.watch.acknowledge(f"{70:032x}", "ana")
        for last_id in (start, first.id):
            resumed, hello = await listen(hub, last_id)
            assert hello["resumed"] is True
            assert (await resumed.alert())["acknowledged_by"] == "ana"
            resumed.close()
    finally:
        await hub.close()
