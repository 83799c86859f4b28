"""What the pages ask about alerts: a flood of new ones hides neither an old one that is louder nor those of one job."""

from __future__ import annotations

import pytest

from wafermonitor.query.client import AsyncClient
from wafermonitor.runs.alerts import Severity, Subject
from wafermonitor.ui.source import Source
from wafermonitor.ui.watched import FIRING_MOST, firing, firing_of


@pytest.fixture
def flooded(own_watched_fab):
    """One old critical alert of `quiet_job`, then more new ones of `noisy_job` than are read at once."""
    fab = own_watched_fab
    story = type(fab.story)(fab.clock.now_ns, fab.ids)
    old = {
        severity: story.alert("old", severity, Subject(site="F15", job=job), (90_001, 90_000), f"{job} is old")
        for severity, job in ((Severity.CRITICAL, "quiet_job"), (Severity.INFO, "quieter_job"))
    }
    for number in range(FIRING_MOST + 20):
        subject = Subject(site="F12", job="noisy_job", detail=str(number))
        story.alert("flood", Severity.INFO, subject, (60 + number, 50), "noisy_job again")
    fab.store(alerts=[one for one in story.alerts if one.rule in {"old", "flood"}])
    return fab, old


def test_a_flood_hides_nothing_that_is_louder(flooded):
    fab, old = flooded

    async def read():
        source = Source(AsyncClient(fab.api.url))
        try:
            return await firing(source)
        finally:
            await source.close()

    watch = fab.call(read())
    assert watch.more
    assert watch.alerts[0].id == old[Severity.CRITICAL]
    assert len({one.id for one in watch.alerts}) == len(watch.alerts) > FIRING_MOST
    assert sum(one.severity != "info" for one in watch.unattended) == 4


@pytest.mark.parametrize(("site", "job"), [("", "quieter_job"), ("F15", "quieter_job"), ("F15", "")])
def test_in_a_flood_those_of_one_job_or_site_are_asked_for(flooded, site, job):
    fab, old = flooded

    async def read():
        source = Source(AsyncClient(fab.api.url))
        try:
            watch = await firing(source)
            return watch, await firing_of(source, watch, site, job)
        finally:
            await source.close()

    watch, found = fab.call(read())
    assert old[Severity.INFO] not in {one.id for one in watch.alerts}
    assert old[Severity.INFO] in {one.id for one in found.alerts}
    assert not found.more
    assert {one.site for one in found.alerts} == {"F15"}
