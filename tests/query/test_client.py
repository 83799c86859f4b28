"""The typed clients against a real server."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from tests.query import watched, world
from wafermonitor.query import server
from wafermonitor.query.client import AsyncClient, Client
from wafermonitor.query.errors import NotFound, QueryRejected, QueryUnavailable, RunNotFound
from wafermonitor.runs.records import Batch


@pytest.fixture
async def client(running):
    async with AsyncClient(running.url) as client:
        yield client


async def test_round_trip_of_every_question(client):
    assert (await client.jobs(order="failing")).items[0].job == "etch_check"
    assert len((await client.jobs(state=["running", "lost"], from_="-1h")).items) == 1
    assert (await client.jobs(overdue=True)).items == []
    assert len((await client.subjobs(parent=world.id_of(1, 1), limit=2)).items) == 2
    assert (await client.run(world.id_of(1, 1))).completeness.verdict == "waiting"
    assert (await client.run(world.id_of(2, 1), site="fab2")).product == "P-9"
    assert len((await client.tree(world.id_of(1, 1))).subjobs) == 3
    assert len((await client.spans(world.id_of(1, 1))).items) == 8
    assert [log.body for log in (await client.logs(world.id_of(1, 1), event=["wafer.job.start"])).items] == ["start"]
    assert [series.name for series in await client.metrics(world.id_of(1, 1))] == ["process.cpu.time", "process.memory.usage"]
    assert [span.name for span in (await client.root_spans(app="yield")).items] == ["stock", "GET /"]
    assert [site.site for site in await client.sites()] == ["fab1", "fab2"]
    assert [app.service for app in await client.apps(site="fab1")] == ["yield"]
    assert (await client.ready()).engine == "memory"


async def test_round_trip_of_every_question_and_change_about_alerts(client, storage):
    await watched.fill(storage.watch)
    page = await client.alerts(open=True, severity=["warning", "critical"])
    assert [alert.id for alert in page.items] == [watched.FEED, watched.OPEN, watched.TAKEN]
    assert page.evaluating is True
    assert [one.channel for one in (await client.alert(watched.OPEN)).deliveries] == ["mail", "chat"]
    assert (await client.explain_alert(watched.TAKEN)).run == world.id_of(2, 1)
    assert (await client.explain(world.id_of(2, 1), site="fab2")).headline == "etch_check failed after 10 min."
    assert (await client.acknowledge(watched.OPEN, by="ana", note="on it")).acknowledged_by == "ana"
    assert [one.name for one in await client.expectations(origin="proposed")] == ["weekly"]
    assert (await client.accept("weekly", by="ana")).origin == "api"
    assert (await client.decline("weekly", by="ana")).name == "weekly"
    assert (await client.expect("lots", job="lot_yield", spec={"every_s": 3600}, by="ana")).origin == "api"
    assert len((await client.expected_runs(expectation=["nightly"])).items) == 2
    made = await client.silence(by="ana", why="known", until="+2h", rule="late")
    assert [one.id for one in await client.silences()] == [watched.SILENCE, made.id]
    assert (await client.unsilence(made.id, by="ana")).id == made.id


async def test_what_is_not_there_or_not_allowed_is_told_by_its_error(client, storage):
    await watched.fill(storage.watch)
    with pytest.raises(NotFound, match="no alert"):
        await client.alert(f"{7:032x}")
    for name in ("..", ".", "x?y", "a%2Fb", "ß"):
        with pytest.raises(NotFound, match="no expectation"):
            await client.accept(name, by="ana")
    with pytest.raises(QueryRejected, match="in a file"):
        await client.decline("hourly", by="ana")
    with pytest.raises(RunNotFound):
        await client.explain(world.id_of(9, 9))


async def test_both_clients_have_the_same_methods(running, storage):
    await watched.fill(storage.watch)

    def methods(kind):
        return {name for name in vars(kind) if not name.startswith("_")}

    assert methods(Client) == methods(AsyncClient)

    def ask():
        with Client(running.url) as client:
            return (
                len(client.jobs().items),
                len(client.subjobs().items),
                client.run(world.id_of(1, 1)).job,
                client.tree(world.id_of(1, 1)).run.job,
                len(client.spans(world.id_of(1, 1)).items),
                len(client.logs(world.id_of(1, 1)).items),
                len(client.metrics(world.id_of(1, 1))),
                len(client.root_spans().items),
                len(client.sites()),
                len(client.apps()),
                client.ready().status,
                client.alerts().evaluating,
                client.acknowledge(watched.OPEN, by="ana").acknowledged_by,
                client.unsilence(client.silence(by="ana", why="x", until="+1h", job="j").id, by="ana").job,
            )

    assert await asyncio.to_thread(ask) == (4, 3, "lot_yield", "lot_yield", 8, 4, 2, 2, 2, 1, "ok", True, "ana", "j")


async def test_errors_are_those_of_the_api(client):
    with pytest.raises(RunNotFound, match="no run or span"):
        await client.run(f"{'0' * 31}f-{'0' * 15}f")
    with pytest.raises(QueryRejected, match="known here") as caught:
        await client.jobs(stat="lost")
    assert caught.value.status == 422


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def test_nobody_there_is_worth_another_try():
    url = f"http://127.0.0.1:{free_port()}"
    async with AsyncClient(url) as client:
        with pytest.raises(QueryUnavailable, match="is `wafer query` running"):
            await client.jobs()
    with Client(url) as client, pytest.raises(QueryUnavailable):
        client.jobs()


async def test_another_service_at_the_address_is_said_so(running):
    async with AsyncClient(f"{running.url}/openapi.json?") as client:
        with pytest.raises(QueryRejected):
            await client.ready()


async def test_a_stream_tells_changes(client, storage):
    stream = client.stream()
    hello = await anext(stream)
    assert (hello.kind, hello.hello.resumed) == ("hello", False)
    await storage.writer.write([Batch(runs=[world.run(50, 1, start_s=0, end_s=0)])])
    async with asyncio.timeout(5):
        event = await anext(stream)
    assert (event.kind, event.run.run) == ("run", world.id_of(50, 1))
    assert event.id is not None
    await stream.aclose()


async def test_a_stream_reconnects_and_resumes_when_the_service_was_away(storage, config, clock):
    first = await server.start(storage, config, clock=clock)
    port = first.url.rsplit(":", 1)[1]
    async with AsyncClient(first.url) as client:
        stream = client.stream()
        await anext(stream)
        await first.stop()
        waiting = asyncio.create_task(anext(stream))
        await storage.writer.write([Batch(runs=[world.run(51, 1, start_s=0, end_s=0)])])
        second = await server.start(storage, config.model_copy(update={"address": f"127.0.0.1:{port}"}), clock=clock)
        try:
            async with asyncio.timeout(20):
                assert (await waiting).hello.resumed is True
                assert (await anext(stream)).run.run == world.id_of(51, 1)
            await stream.aclose()
        finally:
            await second.stop()


async def test_the_blocking_client_streams_too(running, storage):
    events, opened = [], threading.Event()

    def listen():
        with Client(running.url) as client:
            for event in client.stream(job="fifty"):
                events.append(event)
                opened.set()
                if event.kind == "run":
                    return

    listening = asyncio.create_task(asyncio.to_thread(listen))
    assert await asyncio.to_thread(opened.wait, 5)
    await storage.writer.write([Batch(runs=[world.run(52, 1, start_s=0, end_s=0, job="fifty")])])
    async with asyncio.timeout(5):
        await listening
    assert [event.kind for event in events] == ["hello", "run"]


async def test_a_stream_that_the_api_refuses_ends(client):
    with pytest.raises(QueryRejected, match="trace"):
        await anext(client.stream(trace="no"))


async def test_stop_ends_open_streams_at_once(storage, config, clock):
    running = await server.start(storage, config, clock=clock)
    async with AsyncClient(running.url) as client:
        stream = client.stream()
        await anext(stream)
        async with asyncio.timeout(3):
            await running.stop()
        await stream.aclose()


async def test_a_taken_address_is_named(running, storage, config):
    taken = config.model_copy(update={"address": running.url.removeprefix("http://")})
    with pytest.raises(QueryUnavailable, match="--address"):
        await server.start(storage, taken)
