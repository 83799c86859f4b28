"""Answers of the API are shared between viewers, and its refusals become words."""

from __future__ import annotations

import asyncio

import pytest

from tests.ui import seed
from tests.ui.screens import NOW, Clock
from wafermonitor.query import server
from wafermonitor.query.client import AsyncClient
from wafermonitor.query.config import Config
from wafermonitor.runs.alerts import Alert, Finding, Severity, Subject
from wafermonitor.storage import memory
from wafermonitor.storage.watch import Outcome
from wafermonitor.ui.errors import RunMissing, UiRejected, UiUnavailable
from wafermonitor.ui.live import Live
from wafermonitor.ui.source import Source
from wafermonitor.ui.watched import firing


class Counting(AsyncClient):
    """A client that knows how often it asked."""

    asked = 0

    async def _ask(self, *args, **kwargs):
        self.asked += 1
        return await super()._ask(*args, **kwargs)


@pytest.fixture
async def storage():
    storage = memory.Storage(clock=Clock(NOW))
    batch, storage.ids = seed.fill(NOW)
    await storage.writer.write([batch])
    return storage


@pytest.fixture
async def api(storage):
    running = await server.start(storage, Config(address="127.0.0.1:0", stream_poll_s=0.02), clock=Clock(NOW))
    yield running
    await running.stop()


@pytest.fixture
async def source(api):
    source = Source(Counting(api.url))
    yield source
    await source.close()


async def test_viewers_share_an_answer_until_something_changes(source):
    pages = await asyncio.gather(*(source.open_jobs("") for _ in range(20)))
    assert source.client.asked == 1
    assert len(pages[0].items) == 11
    source.changed()
    await source.open_jobs("")
    assert source.client.asked == 2


async def test_a_run_that_is_not_there_and_a_cursor_of_nobody_have_words(source):
    with pytest.raises(RunMissing):
        await source.run(f"{'0' * 31}1-{'0' * 15}2")
    with pytest.raises(UiRejected, match="cursor"):
        await source.runs("jobs", {}, "not-a-cursor", 50)


async def test_an_api_that_is_gone_is_unavailable_and_its_return_is_seen_at_once(storage, api, source):
    await api.stop()
    with pytest.raises(UiUnavailable):
        await source.apps()
    config = Config(address=api.url.removeprefix("http://"))
    again = await server.start(storage, config, clock=Clock(NOW))
    assert {app.service for app in await source.apps()} >= {"sort-yield", "dispatch-api"}
    await again.stop()


async def test_runs_are_no_plain_traces(source):
    page = await source.plain_traces({}, "", 100)
    assert len(page.items) == 24
    assert {span.service for span in page.items} == {"dispatch-api"}


async def test_a_change_in_the_store_is_told_to_every_listener(storage, source):
    live = Live(source)
    heard = asyncio.Event()
    forget = live.listen(heard.set)
    live.start()
    await asyncio.wait_for(heard.wait(), 5)  # the stream's hello: load what is shown
    heard.clear()
    fab = seed.Fab(NOW, start=2)
    seed.Job(seed.Program(fab, "maps"), "wafer_map", fab.at(-1))
    await storage.writer.write([fab.batch])
    await asyncio.wait_for(heard.wait(), 5)
    heard.clear()
    what = Finding("late", Severity.WARNING, Subject(site="F12", job="lot_yield"), NOW, "lot_yield is late")
    opened = Alert("a" * 32, what.fingerprint, what.rule, what.severity, what.subject, NOW, NOW, NOW, what.summary, "{}")
    async with storage.watch.lead() as lead:
        await lead.store(Outcome(alerts=[opened]))
    await asyncio.wait_for(heard.wait(), 5)
    assert [one.summary for one in (await firing(source)).alerts] == ["lot_yield is late"]
    forget()
    assert live.listeners == 0
    await live.close()
