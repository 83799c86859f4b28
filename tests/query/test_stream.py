"""Run changes as events: exactly resumable, judged anew without data, bounded for slow clients."""

from __future__ import annotations

import asyncio

import pytest

from tests.query import world
from tests.query.listening import EVERYTHING, listen
from wafermonitor.query.config import Config
from wafermonitor.query.errors import QueryUnavailable
from wafermonitor.query.stream import Hub, Selection
from wafermonitor.query.telemetry import Meters
from wafermonitor.runs.records import Batch
from wafermonitor.storage import memory
from wafermonitor.storage.errors import CursorRejected, StorageUnavailable

POLLER = "wafer query stream poller"


@pytest.fixture(params=["runs alone", "alerts too"])
async def hub(request, storage, config, clock):
    hub = Hub(storage.reader, config, Meters(), clock, storage.watch if request.param == "alerts too" else None)
    yield hub
    await hub.close()


async def test_a_new_stream_says_hello_and_then_what_changes(hub, storage):
    listener, hello = await listen(hub)
    assert hello == {"server_time": "2026-05-28T20:26:40.000000Z", "resumed": False}
    await storage.writer.write([Batch(runs=[world.run(50, 1, start_s=0)])])
    run = await listener.run()
    assert (run["run"], run["state"]) == (world.id_of(50, 1), "running")
    await storage.writer.write([Batch(runs=[world.run(50, 1, start_s=0, end_s=0)])])
    assert (await listener.run())["state"] == "ended"


async def test_a_resumed_stream_gets_every_change_since(hub, storage):
    listener, _ = await listen(hub)
    await storage.writer.write([Batch(runs=[world.run(50, 1, start_s=0)])])
    await listener.run()
    token = listener.id
    listener.close()
    for number in range(1000):  # more than one answer of the change feed
        await storage.writer.write([Batch(runs=[world.run(100 + number, 1, start_s=0, end_s=0)])])
    resumed, hello = await listen(hub, token)
    assert hello["resumed"] is True
    missed = {(await resumed.run())["run"] for _ in range(1000)}
    assert missed == {world.id_of(100 + number, 1) for number in range(1000)}


async def test_every_cut_resumes_without_a_gap(hub, storage):
    """Cut after each event in turn: what is still to come is seen, whatever the id was."""
    first, _ = await listen(hub)
    await storage.writer.write([Batch(runs=[world.run(200 + number, 1, start_s=0, end_s=0) for number in range(5)])])
    tokens = [first.id]
    for _ in range(5):
        await first.run()
        tokens.append(first.id)
    everyone = {world.id_of(200 + number, 1) for number in range(5)}
    for token in tokens[:-1]:
        resumed, _ = await listen(hub, token)
        seen = set()
        while not everyone <= seen:
            seen.add((await resumed.run())["run"])
        resumed.close()
    assert tokens[-1] != tokens[0]
    assert tokens[:5] == [tokens[0]] * 5, "an id stands only on the last event of a batch"


async def test_an_id_the_store_does_not_know_means_load_afresh(hub):
    _, hello = await listen(hub, "not-a-token")
    assert hello["resumed"] is False


async def test_a_client_that_missed_very_much_loads_afresh(hub, storage, monkeypatch):
    monkeypatch.setattr("wafermonitor.query.stream.MAX_MISSED", 600)
    listener, _ = await listen(hub)
    token = listener.id
    listener.close()
    await storage.writer.write([Batch(runs=[world.run(100 + number, 1, start_s=0, end_s=0) for number in range(1000)])])
    _, hello = await listen(hub, token)
    assert hello["resumed"] is False


async def test_an_open_run_is_judged_anew_without_new_data(hub, clock, storage):
    listener, _ = await listen(hub)
    lot = world.id_of(1, 1)
    seen = []
    for seconds in (60, 1000):
        clock.pass_s(seconds)
        await storage.writer.write([Batch(feeds=[world.feed_beat((clock() - world.NOW) / world.SECOND)])])
        seen.append((await listener.until(lambda run: run["run"] == lot and run["state"] != "unknown"))["state"])
    assert seen == ["silent", "lost"]


async def test_a_run_that_is_lost_among_many_older_losses_is_told(hub, clock, storage, monkeypatch):
    monkeypatch.setattr("wafermonitor.query.stream.MAX_PAGE", 2)
    clock.pass_s(5000)
    beat = Batch(feeds=[world.feed_beat(5000)], runs=[world.run(300 + n, 1, start_s=5000, process_key=None) for n in range(3)])
    lost = [world.run(400 + n, 1, start_s=4000, process_key=None) for n in range(5)]
    await storage.writer.write([beat, Batch(runs=lost)])
    listener, _ = await listen(hub)
    clock.pass_s(1000)
    await storage.writer.write([Batch(feeds=[world.feed_beat(6000)])])
    seen = set()
    while len(seen) < 3:
        run = await listener.run()
        if run["state"] == "lost":
            seen.add(run["run"])
    assert seen == {world.id_of(300 + n, 1) for n in range(3)}


async def test_a_heartbeat_of_the_process_is_told(hub, clock, storage):
    listener, _ = await listen(hub)
    clock.pass_s(5)
    await storage.writer.write([Batch(processes=[world.process_beat(5)])])
    assert (await listener.run())["last_sign"] == "2026-05-28T20:26:45.000000Z"


async def test_a_resumed_stream_gets_the_open_runs_as_they_are_now(hub, clock, storage):
    listener, _ = await listen(hub)
    token = listener.id
    listener.close()
    clock.pass_s(60)
    await storage.writer.write([Batch(feeds=[world.feed_beat(60)])])
    resumed, _ = await listen(hub, token)
    assert (await resumed.until(lambda run: run["run"] == world.id_of(1, 1)))["state"] == "silent"


async def test_filters_choose_and_the_id_moves_on_past_what_they_leave_out(hub, storage):
    chosen, _ = await listen(hub, selection=Selection(frozenset(), frozenset(), frozenset({world.trace_id(61)})))
    before = chosen.id
    await storage.writer.write([Batch(runs=[world.run(60, 1, start_s=0)])])
    await storage.writer.write([Batch(runs=[world.run(61, 1, start_s=0, job="other")])])
    assert (await chosen.run())["job"] == "other"
    assert chosen.id != before
    by_job, _ = await listen(hub, selection=Selection(frozenset({"fab1"}), frozenset({"third"}), frozenset()))
    await storage.writer.write([Batch(runs=[world.run(62, 1, start_s=0), world.run(63, 1, start_s=0, job="third")])])
    assert (await by_job.run())["job"] == "third"


async def test_a_quiet_stream_beats(hub):
    listener, _ = await listen(hub)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(listener.next(), 0.2)
    assert listener.comments >= 2


async def test_what_was_told_is_not_told_again(hub, storage):
    """The change feed may repeat itself; a stream does not."""
    changes = storage.reader.changes
    everything = f"{(await changes(None)).token.partition('.')[0]}.0"

    async def repeating(token, limit=500):
        found = await changes(everything, limit) if token is not None else await changes(None)
        return found._replace(token=token or found.token)

    storage.reader.changes = repeating
    listener, _ = await listen(hub)
    runs = [await listener.run() for _ in range(5)]
    await storage.writer.write([Batch(runs=[world.run(70, 1, start_s=0)])])
    last = await listener.until(lambda run: run["run"] == world.id_of(70, 1))
    assert last["state"] == "running"
    assert len({run["run"] for run in runs}) == 5


class TestSlowClient:
    """A queue of two messages."""

    @pytest.fixture
    def config(self):
        return Config(stream_poll_s=0.001, stream_states_s=1000, stream_queue=2)

    async def test_a_stream_that_does_not_keep_up_is_told_to_load_afresh(self, hub, storage):
        slow, _ = await listen(hub)
        quick, _ = await listen(hub)
        for number in range(5):
            await storage.writer.write([Batch(runs=[world.run(80 + number, 1, start_s=0, end_s=0)])])
            await quick.run()
        kind, hello = await slow.next()
        assert (kind, hello["resumed"]) == ("hello", False)
        await storage.writer.write([Batch(runs=[world.run(90, 1, start_s=0, end_s=0)])])
        await slow.until(lambda run: run["run"] == world.id_of(90, 1))

    async def test_a_stream_that_is_told_to_stop_while_behind_stops(self, hub, storage):
        slow, _ = await listen(hub)
        quick, _ = await listen(hub)
        for number in range(5):
            await storage.writer.write([Batch(runs=[world.run(80 + number, 1, start_s=0, end_s=0)])])
            await quick.run()
        await hub.close()
        left = [text async for text in slow.rest()]
        assert "event: hello" in left[0]
        assert len(left) <= 3


class TestFewStreams:
    """One stream at most."""

    @pytest.fixture
    def config(self):
        return Config(max_streams=1)

    async def test_one_stream_too_many_is_refused_and_a_closed_one_makes_room(self, hub):
        listener, _ = await listen(hub)
        with pytest.raises(QueryUnavailable, match="WAFER_QUERY_MAX_STREAMS"):
            await hub.open(None, EVERYTHING)
        listener.close()
        await listen(hub)


async def test_the_store_is_asked_only_while_a_stream_is_open(hub, storage):
    changes, asked, tokens = storage.reader.changes, asyncio.Event(), []

    async def counted(token, limit=500):
        tokens.append(token)
        asked.set()
        return await changes(token, limit)

    storage.reader.changes = counted
    listener, _ = await listen(hub)
    asked.clear()
    async with asyncio.timeout(5):
        await asked.wait()
    listener.close()
    pollers = [task for task in asyncio.all_tasks() if task.get_name() == POLLER]
    await asyncio.gather(*pollers, return_exceptions=True)
    before = len(tokens)
    await listen(hub)
    assert tokens[before:] == [None], "nobody asked in between, and a new stream starts now"


async def test_a_stream_outlives_a_store_that_is_down_for_a_moment(hub, storage, monkeypatch):
    monkeypatch.setattr("wafermonitor.query.stream._RETRY_S", 0.01)
    listener, _ = await listen(hub)
    changes, failures = storage.reader.changes, 0

    async def failing(token, limit=500):
        nonlocal failures
        failures += 1
        if failures < 4:
            raise StorageUnavailable("down")
        return await changes(token, limit)

    storage.reader.changes = failing
    await storage.writer.write([Batch(runs=[world.run(95, 1, start_s=0, end_s=0)])])
    assert (await listener.run())["run"] == world.id_of(95, 1)
    assert failures >= 4


async def test_a_stream_outlives_a_fault_behind_it(hub, storage, monkeypatch, caplog):
    monkeypatch.setattr("wafermonitor.query.stream._RETRY_S", 0.01)
    listener, _ = await listen(hub)
    changes, failures = storage.reader.changes, []

    async def failing(token, limit=500):
        if not failures:
            failures.append(token)
            raise KeyError("unforeseen")
        return await changes(token, limit)

    storage.reader.changes = failing
    await storage.writer.write([Batch(runs=[world.run(97, 1, start_s=0, end_s=0)])])
    assert (await listener.run())["run"] == world.id_of(97, 1)
    assert "unforeseen" in caplog.text


async def test_when_the_store_was_replaced_every_stream_loads_afresh(hub, storage):
    listener, _ = await listen(hub)
    changes, refused = storage.reader.changes, []

    async def replaced(token, limit=500):
        if token is not None and not refused:
            refused.append(token)
            raise CursorRejected("from another database")
        return await changes(token, limit)

    storage.reader.changes = replaced
    kind, hello = await listener.next()
    assert (kind, hello["resumed"]) == ("hello", False)
    await storage.writer.write([Batch(runs=[world.run(98, 1, start_s=0, end_s=0)])])
    assert (await listener.run())["run"] == world.id_of(98, 1)


async def test_a_run_that_becomes_again_what_it_was_in_the_store_before_is_told(hub, storage):
    """An older backup was brought back: whoever loaded afresh shows the run as it was then."""
    listener, _ = await listen(hub)
    await storage.writer.write([Batch(runs=[world.run(97, 1, start_s=0, end_s=0)])])
    assert (await listener.run())["run"] == world.id_of(97, 1)
    changes, refused, told = storage.reader.changes, [], []

    async def replaced(token, limit=500):
        if token is not None and not refused:
            refused.append(token)
            raise CursorRejected("from another database")
        answer = await changes(token, limit)
        if token is not None and not told:
            told.append(await storage.reader.run(*world.run(97, 1, start_s=0).key[1:]))
            return answer._replace(runs=told)
        return answer

    storage.reader.changes = replaced
    assert (await listener.next())[0] == "hello"
    assert (await listener.run())["run"] == world.id_of(97, 1)


async def test_nothing_of_the_store_before_is_told_after_a_stream_was_asked_to_load_afresh(hub, storage):
    listener, _ = await listen(hub)
    await storage.writer.write([Batch(runs=[world.run(number, 1, start_s=0, end_s=0)]) for number in (96, 97)])
    changes, refused = storage.reader.changes, asyncio.Event()
    begun = asyncio.Event()

    async def replaced(token, limit=500):
        if token is None:
            begun.set()
        elif not refused.is_set():
            refused.set()
            raise CursorRejected("from another database")
        return await changes(token, limit)

    async with asyncio.timeout(5):
        while hub._position == listener.id:  # the poller has put them into the stream's queue
            await asyncio.sleep(0)
        storage.reader.changes = replaced
        await begun.wait()
    await storage.writer.write([Batch(runs=[world.run(98, 1, start_s=0, end_s=0)])])
    assert (await listener.next())[0] == "hello"
    assert (await listener.run())["run"] == world.id_of(98, 1)


async def test_who_comes_back_after_a_store_in_memory_began_anew_loads_afresh(hub, storage, config, clock):
    listener, _ = await listen(hub)
    await storage.writer.write([Batch(runs=[world.run(96, 1, start_s=0, end_s=0)])])
    await listener.run()
    other = memory.Storage(clock=clock)
    await other.writer.write([Batch(runs=[world.run(number, 1, start_s=0, end_s=0)]) for number in range(50)])
    again = Hub(other.reader, config, Meters(), clock)
    try:
        assert (await listen(again, listener.id))[1]["resumed"] is False
    finally:
        await again.close()


async def test_many_streams_share_one_poller(hub, storage):
    listeners = [(await listen(hub))[0] for _ in range(20)]
    await storage.writer.write([Batch(runs=[world.run(96, 1, start_s=0, end_s=0)])])
    for listener in listeners:
        assert (await listener.run())["run"] == world.id_of(96, 1)
    pollers = [task for task in asyncio.all_tasks() if task.get_name() == POLLER]
    assert len(pollers) == 1
