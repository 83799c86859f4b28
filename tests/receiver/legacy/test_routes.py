"""The older routes over HTTP: what is stored, what is answered for each event, and when the sender is to try again."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
from collections.abc import AsyncIterator
from uuid import UUID

import httpx
import pytest

from tests.receiver.conftest import Start, Store
from tests.receiver.legacy.events import JOB, ROUTES, SUBJOB, at_ns, body, event, run
from tests.receiver.otlp import JSON
from wafermonitor.receiver.legacy import translation
from wafermonitor.runs.records import Run
from wafermonitor.runs.state import State
from wafermonitor.storage.errors import StorageRejected, StorageUnavailable
from wafermonitor.storage.protocol import LogQuery, RunQuery

pytestmark = pytest.mark.slow

HEADERS = {"content-type": JSON}


@pytest.fixture
async def client(start: Start) -> AsyncIterator[httpx.AsyncClient]:
    receiver = await start()
    async with httpx.AsyncClient(base_url=f"http://{receiver.http_address}", timeout=30, headers=HEADERS) as client:
        yield client


async def runs(store: Store) -> dict[str | None, Run]:
    page = await store.reader.runs(RunQuery(limit=1000))
    return {found.run.job: found.run for found in page.items}


async def records(store: Store) -> int:
    page = await store.reader.logs(LogQuery(trace_id=UUID(JOB).bytes, limit=1000))
    return len(page.items)


@pytest.mark.parametrize("route", ROUTES)
async def test_each_route_stores_a_run_that_the_reader_shows(client, store, route):
    answer = await client.post(route, content=body(*run()))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == JSON
    assert answer.json() == {
        "ok": True,
        "total": 5,
        "success": 5,
        "failed": 0,
        "forwarded": 5,
        "spooled": 0,
        "results": [{"index": index, "status": "stored", "retryable": False} for index in range(5)],
    }
    found = await runs(store)
    job, part = found["daily-batch"], found["wafer-02"]
    assert (job.result, job.start_ns, job.end_ns, job.cpu_s) == ("success", at_ns(0), at_ns(8), 3.5)
    assert part.parent_span_id == job.span_id
    assert (part.start_ns, part.end_ns, part.parent_run_id) == (at_ns(1), at_ns(5), JOB)
    assert job.progress is not None
    assert job.progress.ratio == 0.5


async def test_a_run_is_seen_while_it_runs(client, store):
    await client.post("/v1/event", content=json.dumps(event("started")))
    stored = await store.reader.run(*translation.ids(UUID(JOB), None))
    assert stored is not None
    assert (stored.state, stored.run.job) == (State.RUNNING, "daily-batch")
    await client.post("/v1/event", content=json.dumps(event("error", 5)))
    stored = await store.reader.run(*translation.ids(UUID(JOB), None))
    assert (stored.state, stored.run.result) == (State.ENDED, "failure")


@pytest.mark.parametrize("route", ROUTES)
async def test_a_single_event_that_is_wrong_is_400_with_the_field_and_the_fix(client, store, route):
    answer = await client.post(route, content=json.dumps(event("paused")))
    assert answer.status_code == 400
    said = answer.json()
    assert (said["ok"], said["total"], said["success"], said["failed"], said["retryable"]) == (False, 1, 0, 1, False)
    assert said["detail"] == (
        "events[0]: event.kind: 'paused' is none; send started, progress, metric, finished, error or canceled"
    )
    assert said["results"] == [
        {"index": 0, "status": "rejected", "retryable": False, "error": said["detail"].removeprefix("events[0]: ")}
    ]
    assert [letter.signal for letter in store.letters] == ["events"]


async def test_good_events_are_stored_beside_wrong_ones(client, store):
    good = run()
    answer = await client.post("/v1/events/batch", content=body(good[0], 3, good[1], event("paused"), *good[2:]))
    assert answer.status_code == 200
    said = answer.json()
    assert (said["ok"], said["total"], said["success"], said["failed"], said["forwarded"]) == (False, 7, 5, 2, 5)
    assert [result["status"] for result in said["results"]] == ["stored", "rejected", "stored", "rejected", *["stored"] * 3]
    assert said["detail"].endswith("(and 1 more, see results)")
    assert [result["retryable"] for result in said["results"]] == [False] * 7
    assert (await runs(store))["daily-batch"].result == "success"
    assert len(store.letters) == 2


async def test_what_is_sent_again_in_any_order_is_stored_once(client, store):
    events = run()
    for seed in range(3):
        random.Random(seed).shuffle(events)
        whole = client.post("/v1/events/batch", content=body(*events))
        singly = [client.post("/v1/event", content=json.dumps(sent)) for sent in events]
        assert {answer.status_code for answer in await asyncio.gather(whole, *singly)} == {200}
    assert await records(store) == 5
    assert len(await runs(store)) == 2


async def test_the_answer_comes_after_the_commit(client, store):
    store.open.clear()
    sending = asyncio.create_task(client.post("/v1/event", content=json.dumps(event())))
    await store.entered.wait()
    assert not sending.done()
    assert await runs(store) == {}
    store.open.set()
    assert (await sending).status_code == 200


async def test_a_store_that_is_down_is_503_and_says_which_events_to_send_again(client, store):
    store.fail = lambda _: StorageUnavailable("the database does not answer")
    answer = await client.post("/v1/ingest/managed", content=body(event("started"), event("paused")))
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    said = answer.json()
    assert (said["ok"], said["retryable"]) == (False, True)
    assert [(result["status"], result["retryable"]) for result in said["results"]] == [("retry", True), ("rejected", False)]
    store.fail = lambda _: None
    again = await client.post("/v1/ingest/managed", content=body(event("started"), event("paused")))
    assert again.status_code == 200
    assert await records(store) == 1


async def test_an_event_that_only_the_store_refuses_is_found_among_the_others(client, store):
    def refuse(batches):
        guilty = any("GUILTY" in log.attributes for batch in batches for log in batch.logs)
        return StorageRejected("no") if guilty else None

    store.fail = refuse
    events = [event("progress", second, key=f"GUILTY {second}" if second in (3, 11) else None) for second in range(16)]
    answer = await client.post("/v1/events/batch", content=body(*events, "no event"))
    assert answer.status_code == 200
    said = answer.json()
    assert [result["index"] for result in said["results"] if result["status"] == "rejected"] == [3, 11, 16]
    assert said["results"][3]["error"] == "the store refuses this event for good"
    assert await records(store) == 14


async def test_a_store_that_refuses_everything_is_400_for_good(client, store):
    store.fail = lambda batches: StorageRejected("no") if any(batch.logs for batch in batches) else None
    answer = await client.post("/v1/event", content=json.dumps(event()))
    assert answer.status_code == 400
    assert answer.json()["results"][0] == {
        "index": 0,
        "status": "rejected",
        "retryable": False,
        "error": "the store refuses this event for good",
    }


async def test_a_body_that_is_no_json_is_400(client, store):
    answer = await client.post("/v1/event", content=b"started")
    assert answer.status_code == 400
    assert answer.json() == {
        "ok": False,
        "detail": "the body: it is not JSON; send one event, an array of events, or an object with the array `events`",
        "retryable": False,
    }
    assert store.letters == []


async def test_no_events_are_stored_at_once(client):
    answer = await client.post("/v1/events/batch", content=b"[]")
    assert (answer.status_code, answer.json()["total"], answer.json()["results"]) == (200, 0, [])


async def test_gzip_is_taken(client, store):
    sent = gzip.compress(body(*run()))
    answer = await client.post("/v1/events/batch", content=sent, headers=HEADERS | {"content-encoding": "gzip"})
    assert answer.json()["success"] == 5
    assert await records(store) == 5


async def test_a_large_body_is_read_apart_and_stored_whole(client, store):
    events = [event("progress", second / 8) for second in range(400)]
    answer = await client.post("/v1/events/batch", content=body(*events, 3))
    assert (answer.json()["success"], answer.json()["failed"]) == (400, 1)
    assert await records(store) == 400


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("method", "headers", "sent", "status"),
    [
        ("GET", {}, b"", 405),
        ("PUT", HEADERS, b"[]", 405),
        ("POST", {"content-type": "text/plain"}, b"[]", 415),
        ("POST", {"content-type": "application/x-protobuf"}, b"[]", 415),
        ("POST", HEADERS | {"content-encoding": "br"}, b"[]", 415),
        ("POST", HEADERS | {"content-encoding": "gzip"}, b"[]", 400),
        ("POST", HEADERS, b" " * 2048, 413),
    ],
)
async def test_what_is_refused_before_it_is_read_is_refused_as_for_otlp(start, route, *, method, headers, sent, status):
    receiver = await start(max_request_bytes=1024)
    async with httpx.AsyncClient(base_url=f"http://{receiver.http_address}") as client:
        answer = await client.request(method, route, content=sent, headers=headers)
    assert answer.status_code == status
    said = answer.json()
    assert (said["ok"], said["retryable"]) == (False, False)
    assert said["detail"]
    assert answer.headers.get("allow") == ("POST" if status == 405 else None)


async def test_a_token_is_asked_for(start, store):
    receiver = await start(token="secret")
    async with httpx.AsyncClient(base_url=f"http://{receiver.http_address}", headers=HEADERS) as client:
        refused = await client.post("/v1/event", content=json.dumps(event()))
        taken = await client.post("/v1/event", content=json.dumps(event()), headers={"authorization": "Bearer secret"})
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert taken.status_code == 200


async def test_a_full_queue_is_503_with_a_hint(start, store):
    receiver = await start(queue_bytes=1024, max_request_bytes=1024)
    store.open.clear()
    async with httpx.AsyncClient(base_url=f"http://{receiver.http_address}", headers=HEADERS) as client:
        first = asyncio.create_task(client.post("/v1/event", content=json.dumps(event()).ljust(700)))
        await store.entered.wait()
        second = await client.post("/v1/event", content=json.dumps(event(key="other")).ljust(700))
        store.open.set()
        assert (await first).status_code == 200
    assert second.status_code == 503
    assert int(second.headers["retry-after"]) >= 1
    assert second.json()["retryable"] is True


async def test_a_site_over_its_quota_is_429_and_the_others_are_taken(start, store):
    receiver = await start(quota_by_site='{"fab1": {"bytes_per_s": 1}}')
    other = event(key="other") | {"site_id": "fab2"}
    async with httpx.AsyncClient(base_url=f"http://{receiver.http_address}", headers=HEADERS) as client:
        first, second = [await client.post("/v1/events/batch", content=body(*run())) for _ in range(2)]
        elsewhere = await client.post("/v1/events/batch", content=body(other))
    assert (first.status_code, second.status_code, elsewhere.status_code) == (200, 429, 200)
    assert int(second.headers["retry-after"]) >= 1
    assert second.json()["retryable"] is True
    assert {result["status"] for result in second.json()["results"]} == {"retry"}


async def test_the_older_port_serves_the_same(start, store):
    receiver = await start(legacy_port=0)
    assert receiver.legacy_address not in (None, receiver.http_address)
    async with httpx.AsyncClient(base_url=f"http://{receiver.legacy_address}", headers=HEADERS) as client:
        assert (await client.post("/v1/ingest/events", content=json.dumps(event()))).json()["ok"] is True
        health = await client.get("/v1/health")
        page = (await client.get("/metrics")).text
    assert (health.status_code, health.json()) == (200, {"status": "ok", "service": "wafer-receiver"})
    assert 'wafer_receiver_requests_total{answer="ok",signal="events",transport="http"} 1.0' in page
    assert await records(store) == 1


async def test_without_a_port_there_is_one_listener(start):
    assert (await start()).legacy_address is None


async def test_the_older_port_is_closed_when_the_receiver_stops(start):
    receiver = await start(legacy_port=0)
    await receiver.stop()
    async with httpx.AsyncClient(base_url=f"http://{receiver.legacy_address}") as client:
        with pytest.raises(httpx.ConnectError):
            await client.get("/v1/health")


@pytest.mark.parametrize("path", ["/v1/health", "/v1/healthz", "/health"])
async def test_health_says_whether_events_can_be_stored(client, store, path, monkeypatch):
    async def away():
        raise StorageUnavailable("the database does not answer")

    assert (await client.get(path)).status_code == 200
    monkeypatch.setattr(store.reader, "health", away)
    answer = await client.get(path)
    assert answer.status_code == 503
    assert answer.json() == {"status": "degraded", "service": "wafer-receiver", "reason": "the store does not answer"}


async def test_a_drain_commits_what_was_accepted(start, store):
    receiver = await start()
    store.open.clear()
    async with httpx.AsyncClient(base_url=f"http://{receiver.http_address}", headers=HEADERS) as client:
        sending = asyncio.create_task(client.post("/v1/event", content=json.dumps(event(subjob=True))))
        await store.entered.wait()
        stopping = asyncio.create_task(receiver.stop())
        store.open.set()
        assert (await sending).status_code == 200
        await stopping
    assert (await runs(store))["wafer-02"].run_id == SUBJOB
