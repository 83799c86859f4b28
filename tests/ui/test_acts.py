"""What a viewer may change: what is asked of the API, and which words come back when it cannot be."""

from __future__ import annotations

from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest

from tests.ui import seed, seed_watch
from tests.ui.screens import NOW, Clock
from wafermonitor.query import server
from wafermonitor.query.client import AsyncClient
from wafermonitor.query.config import Config
from wafermonitor.storage import memory
from wafermonitor.ui.acts import perform
from wafermonitor.ui.errors import UiRejected, UiUnavailable
from wafermonitor.ui.source import Source
from wafermonitor.ui.watched import alert, expectations, firing, silences

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture
async def watched():
    """A source over a store with alerts, its story, and the API."""
    clock = Clock(NOW)
    storage = memory.Storage(clock=clock)
    batch, ids = seed.fill(NOW)
    runs, ticks = seed_watch.month(NOW)
    await storage.writer.write([batch, runs])
    story = await seed_watch.fill(storage.watch, NOW, ids, ticks)
    api = await server.start(storage, Config(address="127.0.0.1:0"), clock=clock)
    source = Source(AsyncClient(api.url))
    yield SimpleNamespace(source=source, story=story, api=api)
    await source.close()
    await api.stop()


async def test_an_acknowledged_alert_is_nobodys_no_more(watched):
    before = await firing(watched.source)
    lost = watched.story.ids["lost"]
    words = await perform(watched.source, "acknowledge", {"alert": lost, "by": " Ana ", "note": "restarting"}, BERLIN)
    assert words.startswith("Ana looks after it")
    after = await firing(watched.source)
    assert {one.id for one in before.unattended} - {one.id for one in after.unattended} == {lost}
    found = await alert(watched.source, lost)
    assert (found.acknowledged_by, found.note) == ("Ana", "restarting")


async def test_a_silence_lasts_as_long_as_was_said_and_can_be_ended(watched):
    given = {"site": "F15", "job": "", "rule": "feed-behind", "for": "8h", "by": "Ana", "why": "link is mended"}
    await perform(watched.source, "silence", given, BERLIN)
    made = next(one for one in await silences(watched.source) if one.why == "link is mended")
    assert (made.site, made.job, made.rule, made.until[:19]) == ("F15", None, "feed-behind", "2026-05-29T16:00:00")
    await perform(watched.source, "unsilence", {"silence": made.id, "by": "Ana"}, BERLIN)
    assert made.id not in {one.id for one in await silences(watched.source)}


async def test_until_is_by_the_viewers_clock(watched):
    given = {"job": "lot_yield", "for": "1h", "until": "2026-05-30T06:30", "by": "Ana", "why": "shutdown"}
    await perform(watched.source, "silence", given, BERLIN)
    made = next(one for one in await silences(watched.source) if one.job == "lot_yield")
    assert made.until[:19] == "2026-05-30T04:30:00"


@pytest.mark.parametrize(
    ("act", "given", "words"),
    [
        ("acknowledge", {"alert": "0" * 32, "by": "Ana"}, "no alert"),
        ("acknowledge", {"alert": "0" * 32}, "your name"),
        ("silence", {"by": "Ana", "why": "so"}, "a site, a job or a rule"),
        ("silence", {"by": "Ana", "site": "F12"}, "why"),
        ("silence", {"by": "Ana", "site": "F12", "why": "so", "until": "2020-01-01T00:00"}, "until"),
        ("silence", {"by": "Ana", "site": "F12", "why": "so", "until": "soon"}, "no date"),
        ("silence", {"by": "x" * 300, "site": "F12", "why": "so"}, "Your name"),
        ("unsilence", {"silence": "0" * 32, "by": "Ana"}, "no silence"),
        ("accept", {"expectation": "none", "by": "Ana"}, "none"),
        ("drop_table", {}, "load it again"),
    ],
)
async def test_what_cannot_be_is_said_in_words(watched, act, given, words):
    with pytest.raises(UiRejected, match=f"(?i){words}"):
        await perform(watched.source, act, given, BERLIN)


async def test_a_proposal_is_accepted_or_declined_by_a_person(watched):
    await perform(watched.source, "accept", {"expectation": "learned audit", "by": "Ana"}, BERLIN)
    found = {one.name: one.origin for one in await expectations(watched.source, "", seed_watch.JOB)}
    assert found == {"audit": "declared", "learned audit": "api"}
    await perform(watched.source, "decline", {"expectation": "learned audit", "by": "Ana"}, BERLIN)
    assert [one.name for one in await expectations(watched.source, "F12", seed_watch.JOB)] == ["audit"]
    with pytest.raises(UiRejected, match="file"):
        await perform(watched.source, "decline", {"expectation": "audit", "by": "Ana"}, BERLIN)


async def test_an_api_that_is_gone_changes_nothing(watched):
    await watched.api.stop()
    with pytest.raises(UiUnavailable):
        await perform(watched.source, "acknowledge", {"alert": watched.story.ids["lost"], "by": "Ana"}, BERLIN)
