"""Changes of alerts as events: on the stream of runs, resumable together with them, neither held up by the other's store."""

from __future__ import annotations

import asyncio

import pytest

from tests.query import watched, world
from tests.query.listening import listen
from wafermonitor.query.client import AsyncClient
from wafermonitor.query.config import Config
from wafermonitor.query.stream import Hub, Selection
from wafermonitor.query.telemetry import Meters
from wafermonitor.runs.alerts import Silence, Subject
from wafermonitor.runs.records import Batch
from wafermonitor.storage.errors import CursorRejected, StorageUnavailable

NONE = frozenset()


@pytest.fixture(autouse=True)
def _retry_soon(monkeypatch):
    monkeypatch.setattr("wafermonitor.query.stream._RETRY_S", 0.01)
    monkeypatch.setattr("wafermonitor.query.stream._ALERTS_PATIENCE_S", 0.1)


@pytest.fixture
async def watch(storage):
    return storage.watch


@pytest.fixture
async def hub(storage, config, clock):
    hub = Hub(storage.reader, config, Meters(), clock, storage.watch)
    yield hub
    await hub.close()


def numbered(number, **fields):
    return watched.alert(f"{number:032x}", rule=f"rule {number}", fingerprint=f"{number}", **fields)


async def end_run(storage, number):
    await storage.writer.write([Batch(runs=[world.run(number, 1, start_s=0, end_s=0)])])


async def test_a_stream_tells_when_an_alert_opens_is_taken_and_is_over(hub, watch):
    listener, _ = await listen(hub)
    await watched.store(watch, alerts=[watched.alert()])
    opened = await listener.alert()
    assert (opened["id"], opened["summary"], opened["resolved"]) == (watched.OPEN, "lot_yield has not started", None)
    await watch.acknowledge(watched.OPEN, "ana")
    assert (await listener.alert())["acknowledged_by"] == "ana"
    await watched.store(watch, alerts=[watched.alert(resolved_s=0)])
    assert (await listener.alert())["resolved"] == "2026-05-28T20:26:40.000000Z"


async def test_an_alert_that_is_only_seen_again_is_not_told(hub, watch):
    listener, _ = await listen(hub)
    await watched.store(watch, alerts=[watched.alert()])
    await listener.alert()
    changes = watch.alert_changes

    async def all_again(token, limit=500):
        answer = await changes(token, limit)
        return answer._replace(alerts=[await watch.alert(watched.OPEN), *answer.alerts])

    watch.alert_changes = all_again
    await watched.store(watch, alerts=[watched.alert(seen_ns=watched.at(10))])
    await watched.store(watch, alerts=[numbered(5)])
    assert (await listener.alert())["rule"] == "rule 5"


async def test_an_alert_says_that_it_is_silenced(hub, watch):
    listener, _ = await listen(hub)
    await watch.silence(Silence("s", watched.at(60), "ana", "known", watched.at(-1), rule="late"))
    await watched.store(watch, alerts=[watched.alert()])
    assert (await listener.alert())["silenced_until"] == "2026-05-28T20:27:40.000000Z"


async def test_every_cut_resumes_without_a_gap_in_runs_and_alerts(hub, storage, watch):
    first, _ = await listen(hub)
    ids, told = [first.id], []
    for number in range(1, 7):
        if number % 2:
            await end_run(storage, 200 + number)
        else:
            await watched.store(watch, alerts=[numbered(number)])
        told.append(await first.next())
        ids.append(first.id)
    first.close()
    assert len(set(ids)) == 7
    for place, last_id in enumerate(ids):
        resumed, hello = await listen(hub, last_id)
        assert hello["resumed"] is True
        wanted = {data.get("run") or data["rule"] for _, data in told[place:]}
        async with asyncio.timeout(5):
            while wanted:
                _, data = await resumed.next()
                wanted.discard(data.get("run") or data.get("rule"))
        resumed.close()


async def test_a_cut_while_runs_are_made_up_for_loses_no_alert(hub, storage, watch):
    first, _ = await listen(hub)
    start = first.id
    await end_run(storage, 201)
    await watched.store(watch, alerts=[numbered(1)])
    first.close()
    second, _ = await listen(hub, start)
    await second.run()  # cut here, before the alert that was missed
    second.close()
    third, _ = await listen(hub, second.id)
    async with asyncio.timeout(5):
        while (await third.next())[0] != "alert":
            pass


@pytest.mark.parametrize(
    ("selection", "rules"),
    [
        (Selection(frozenset({"fab2"}), NONE, NONE), ["run", "last"]),
        (Selection(NONE, frozenset({"lot_yield"}), NONE), ["late", "last"]),
        (Selection(NONE, NONE, frozenset({world.trace_id(2)})), ["run", "last"]),
        (Selection(frozenset({"fab1"}), NONE, NONE), ["late", "feed"]),
    ],
)
async def test_a_stream_tells_only_of_alerts_that_were_asked_for(hub, watch, selection, rules):
    listener, _ = await listen(hub, selection=selection)
    failed = Subject(site="fab2", job="etch_check", run=watched.FAILED_RUN)
    last = Subject(site="fab2", job="lot_yield", run=watched.FAILED_RUN)
    subjects = {
        "late": Subject(site="fab1", job="lot_yield"),
        "run": failed,
        "feed": Subject(site="fab1", feed="feed-1"),
        "store": Subject(),
        "last": last,
    }
    for number, (rule, subject) in enumerate(subjects.items()):
        await watched.store(watch, alerts=[watched.alert(f"{number:032x}", rule=rule, subject=subject)])
    assert [(await listener.alert())["rule"] for _ in rules] == rules


@pytest.mark.parametrize("damage", [lambda text: text.partition("~")[0], lambda text: f"{text}1", lambda text: f"{text}x"])
async def test_who_comes_back_with_an_id_that_says_nothing_of_alerts_loads_afresh(hub, damage):
    listener, _ = await listen(hub)
    assert (await listen(hub, damage(listener.id)))[1]["resumed"] is False
    assert (await listen(hub, listener.id))[1]["resumed"] is True


@pytest.mark.parametrize("fault", [StorageUnavailable("down"), None])
async def test_runs_are_told_while_the_store_of_alerts_is_down(hub, storage, watch, fault):
    """None: it does not answer at all."""
    changes = watch.alert_changes

    async def down(token, limit=500):
        if fault is None:
            await asyncio.Event().wait()
        raise fault

    watch.alert_changes = down
    listener, _ = await listen(hub)
    await end_run(storage, 95)
    assert (await listener.run())["run"] == world.id_of(95, 1)
    resumed, hello = await listen(hub, listener.id)
    assert hello["resumed"] is False
    resumed.close()
    if fault is not None:
        watch.alert_changes = changes
        kind, hello = await listener.next()
        assert (kind, hello["resumed"]) == ("hello", False), "alerts may have changed meanwhile"
        await watched.store(watch, alerts=[watched.alert()])
        assert (await listener.alert())["id"] == watched.OPEN


async def test_a_stream_outlives_a_store_of_alerts_that_was_replaced(hub, watch):
    listener, _ = await listen(hub)
    changes, refused = watch.alert_changes, []

    async def replaced(token, limit=500):
        if token is not None and not refused:
            refused.append(token)
            raise CursorRejected("from another database")
        return await changes(token, limit)

    watch.alert_changes = replaced
    kind, hello = await listener.next()
    assert (kind, hello["resumed"]) == ("hello", False)
    await watched.store(watch, alerts=[watched.alert()])
    assert (await listener.alert())["id"] == watched.OPEN


async def test_more_alerts_than_one_answer_holds_are_all_told(hub, watch):
    listener, _ = await listen(hub)
    start = listener.id
    await watched.store(watch, alerts=[numbered(number) for number in range(1200)])
    assert {(await listener.alert())["id"] for _ in range(1200)} == {f"{number:032x}" for number in range(1200)}
    resumed, _ = await listen(hub, start)
    assert {(await resumed.alert())["id"] for _ in range(1200)} == {f"{number:032x}" for number in range(1200)}


async def test_a_store_that_is_busy_with_other_things_is_asked_once_in_a_while(storage, clock, watch):
    """PostgreSQL's token moves on with every transaction, also where no alert changes."""
    changes, asked = watch.alert_changes, []

    async def busy(token, limit=500):
        await asyncio.sleep(0)
        asked.append(token)
        answer = await changes(None if token is None else token.partition(" ")[0], limit)
        return answer._replace(token=f"{answer.token} {len(asked)}")

    watch.alert_changes = busy
    hub = Hub(storage.reader, Config(stream_poll_s=0.001, stream_alerts_s=3600), Meters(), clock, watch)
    listener, _ = await listen(hub)
    for number in range(1, 6):
        await end_run(storage, number)
        await listener.run()
    await hub.close()
    assert len(asked) == 2, "when the stream began, and once since"


async def test_the_client_tells_alerts_from_runs(running, storage):
    async with AsyncClient(running.url) as client, asyncio.timeout(10):
        stream = client.stream()
        assert (await anext(stream)).kind == "hello"
        await watched.store(storage.watch, alerts=[watched.alert()])
        event = await anext(stream)
        assert (event.kind, event.alert.id, event.run) == ("alert", watched.OPEN, None)
        await stream.aclose()
