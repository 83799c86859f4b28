"""What stands behind an alert, asked over the API: a run, an expected run, a feed, a site, a job."""

from __future__ import annotations

import httpx
import pytest

from tests.query import lots, watched, world
from wafermonitor.query.app import create_app
from wafermonitor.query.config import Config
from wafermonitor.runs.alerts import Subject
from wafermonitor.runs.expectations import ExpectedState
from wafermonitor.runs.records import Batch
from wafermonitor.storage import memory

MISSED = Subject(site="fab1", job="lot_yield", detail="nightly 2026-05-28T19:26:40Z")
"""An hour before now, as the judges write it."""


@pytest.fixture
async def storage(clock):
    """Five good lots, one an hour, the last two hours ago."""
    storage = memory.Storage(clock=clock)
    span = world.job_span(104, 1, "lot_yield", start_s=-7200, duration_s=300)
    await storage.writer.write([Batch(runs=lots.usual(5, before_s=-lots.HOUR), spans=[span], feeds=[world.feed_beat()])])
    return storage


@pytest.fixture
async def explained(storage, clock):
    async def ask(subject, **outcome):
        await storage.watch.save(watched.expectation())
        await watched.store(storage.watch, alerts=[watched.alert(subject=subject)], **outcome)
        app = create_app(storage, Config(), clock=clock)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as client:
            answer = await client.get(f"/v1/alerts/{watched.OPEN}/explain")
        assert answer.status_code == 200, answer.text
        body = answer.json()
        return body["headline"], [reason["text"] for reason in body["reasons"]], body

    return ask


async def test_a_missed_run_says_that_the_link_is_up_and_when_the_job_last_ran(explained):
    before = [
        watched.expected_run(-7200, ExpectedState.MISSED, settled=True),
        watched.expected_run(-10_800, ExpectedState.MET, start_ns=watched.at(-10_000), settled=True),
        watched.expected_run(-14_400, ExpectedState.MET, start_ns=watched.at(-14_400), settled=True),
    ]
    headline, texts, body = await explained(MISSED, expected=[watched.expected_run(), *before])
    assert headline == "lot_yield did not run: it was due at 2026-05-28 19:26:40 UTC, 1 h ago."
    assert texts == [
        "Feed feed-1 of site fab1 tells of times up to 0 s ago: the link is up.",
        "lot_yield last ran at 2026-05-28 18:26:40 UTC, 1 h before this one was due, and ended with success after 5 min.",
        "Its program yield was last heard of 0 s ago.",
        "Of the 3 expected runs before it, 1 did not come and 1 came late; the last did not come.",
    ]
    assert (body["run"], body["good_run"]) == (None, world.id_of(104, 1))


async def test_a_late_run_whose_predecessor_still_goes_on_says_so(explained, storage):
    await storage.writer.write([Batch(runs=[world.run(600, 1, start_s=-7000, last_sign_ns=world.NOW)])])
    headline, texts, _ = await explained(MISSED, expected=[watched.expected_run(state=ExpectedState.LATE)])
    assert headline == "lot_yield has not started: it was due at 2026-05-28 19:26:40 UTC, 1 h ago."
    assert texts[1] == (
        "The run before it, begun at 2026-05-28 18:30:00 UTC, 56 min 40 s before this one was due, has not ended: "
        "it is still running for 1 h 56 min."
    )


async def test_an_unknown_run_names_the_feed_that_is_behind(explained, clock):
    clock.pass_s(600)
    headline, texts, _ = await explained(MISSED, expected=[watched.expected_run(state=ExpectedState.UNKNOWN)])
    assert headline.startswith(
        "Nobody can know whether lot_yield started: it was due at 2026-05-28 19:26:40 UTC, 1 h 10 min ago"
    )
    assert texts[0] == "Feed feed-1 of site fab1 is behind since 2026-05-28 20:26:40 UTC."


async def test_a_run_of_a_lot_that_came_after_all_says_how_late(explained):
    came = watched.expected_run(state=ExpectedState.MET, subject="LOT 7", start_ns=watched.at(-1800), run=world.run(104, 1).key)
    subject = MISSED._replace(detail=f"{MISSED.detail} LOT 7")
    headline, _, _ = await explained(subject, expected=[came, watched.expected_run()])
    assert headline == "lot_yield for LOT 7 came 30 min late: it was due at 2026-05-28 19:26:40 UTC."


async def test_a_feed_that_is_behind_alone_points_at_its_host(explained, storage, clock):
    await storage.writer.write([Batch(runs=[world.run(600, 1, start_s=-60, last_sign_ns=world.NOW)])])
    clock.pass_s(600)
    await storage.writer.write([Batch(feeds=[world.feed_beat(600, feed="feed-2")])])
    headline, texts, _ = await explained(Subject(site="fab1", feed="feed-1"))
    assert headline == "Feed feed-1 of site fab1 is behind since 2026-05-28 20:26:40 UTC."
    assert texts == [
        "The other feed of the site tells of now: it is this host or its Collector.",
        "1 open run of it cannot be judged.",
    ]


async def test_feeds_that_are_behind_together_point_at_the_link(explained, storage, clock):
    await storage.writer.write([Batch(feeds=[world.feed_beat(0, feed="feed-2")])])
    clock.pass_s(600)
    _, texts, _ = await explained(Subject(site="fab1", feed="feed-1"))
    assert texts == ["The other feed of the site is behind, too: the site's link."]


async def test_a_site_without_jobs_tells_what_is_heard_of_it(explained):
    headline, texts, _ = await explained(Subject(site="fab1"))
    assert headline == "Site fab1 can be heard."
    assert texts[-1] == "Its programs were last heard of: yield 0 s ago."


async def test_a_job_that_fails_often_tells_with_what(explained, storage):
    bad = [run for number in range(4) for run in lots.lot(300 + number, -600 + number * 100, wafers=1, fails=0, equipment="P2")]
    await storage.writer.write([Batch(runs=bad)])
    headline, texts, body = await explained(Subject(site="fab1", job="lot_yield"))
    assert headline == "4 of the last 9 runs of lot_yield failed."
    assert texts == [
        "They failed: 4 with BadFile.",
        "With equipment P2 4 of 4 runs failed, with others 0 of 5.",
        "The last 4 runs failed, the first of them begun at 2026-05-28 20:16:40 UTC.",
    ]
    assert body["good_run"] == world.id_of(104, 1)


async def test_an_alert_about_a_run_is_explained_as_the_run(explained, storage):
    await storage.writer.write([Batch(runs=lots.lot(300, -600, fails=1))])
    subject = Subject(site="fab1", job="lot_yield", run=world.run(300, 1).key)
    headline, texts, body = await explained(subject)
    assert headline == "lot_yield failed after 2 min: subjob fit (W01) failed first."
    assert len(texts) > 1
    assert (body["run"], body["cohort"]) == (world.id_of(300, 1), 5)


@pytest.mark.parametrize("subject", [Subject(), Subject(detail="/data"), Subject(site="fab1", feed="gone")])
async def test_an_alert_about_nothing_that_can_be_looked_up_says_what_it_says(explained, subject):
    headline, texts, _ = await explained(subject)
    assert (headline, texts) == ("lot_yield has not started", [])


@pytest.mark.parametrize(
    "detail", ["", "nightly", "nightly soon", "nightly 2026-05-28T19:26:40", "gone 2026-05-28T19:26:40Z x"]
)
async def test_a_detail_that_names_no_expected_run_leaves_the_job(explained, detail):
    headline, _, _ = await explained(MISSED._replace(detail=detail), expected=[watched.expected_run()])
    assert headline == "0 of the last 5 runs of lot_yield failed."
