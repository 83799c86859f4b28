"""The likely cause of an alert that opens, from a store that knows the job's past."""

from __future__ import annotations

import json

import pytest

from tests.query import lots, watched, world
from wafermonitor.alerting.causes import Causes
from wafermonitor.runs.alerts import Subject
from wafermonitor.runs.records import Batch
from wafermonitor.storage import memory


@pytest.fixture
async def storage():
    """Five good lots, and one that failed ten minutes ago."""
    storage = memory.Storage(clock=world.Clock())
    runs = [*lots.usual(5, before_s=-lots.HOUR), *lots.lot(300, -600, fails=1, equipment="P2")]
    await storage.writer.write([Batch(runs=runs, feeds=[world.feed_beat()])])
    await storage.watch.save(watched.expectation())
    await watched.store(storage.watch, expected=[watched.expected_run()])
    return storage


@pytest.fixture
def cause(storage):
    async def ask(subject, evidence=None):
        alert = watched.alert(opened_s=0, subject=subject, evidence=json.dumps(evidence or {}))
        return await Causes(storage.reader, storage.watch)(alert)

    return ask


FAILED = "Subjob fit (W01) in subjob wafer (W01) failed first with BadFile at 2026-05-28 20:18:35 UTC. "


async def test_a_failed_run_names_what_failed_first(cause):
    text = await cause(Subject(site="fab1", job="lot_yield", run=world.run(300, 1).key))
    assert text == FAILED + "BadFile is new: it ended none of the last 5 runs before it."


async def test_a_run_that_only_the_evidence_names_is_looked_up(cause):
    assert (await cause(Subject(site="fab1", job="lot_yield"), {"run": world.id_of(300, 1)})).startswith(FAILED)


async def test_a_missed_run_says_that_the_link_is_up_and_when_the_job_last_ran(cause):
    text = await cause(Subject(site="fab1", job="lot_yield", detail="nightly 2026-05-28T19:26:40Z"))
    assert text.startswith("Feed feed-1 of site fab1 tells of times up to 0 s ago: the link is up. lot_yield last ran at ")


async def test_a_good_run_has_no_cause(cause):
    assert await cause(Subject(site="fab1", job="lot_yield", run=world.run(104, 1).key)) is None


@pytest.mark.parametrize("subject", [Subject(), Subject(detail="/data"), Subject(site="fab9", feed="gone")])
async def test_what_cannot_be_looked_up_has_no_cause(cause, subject):
    assert await cause(subject) is None
