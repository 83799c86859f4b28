"""The simulated fab is the same for the same seed, and holds every kind of trouble."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from wafermonitor.alerting.simulator.fab import START_NS, After, Size, build
from wafermonitor.alerting.simulator.story import LEAST_PAUSE_S, Story, tell, usual_s
from wafermonitor.runs.state import SECOND_NS

SIZE = Size(sites=3, hosts=3, jobs=5, days=0.5, outages=6.0, slow=0.01)


@pytest.fixture(scope="module")
def story() -> Story:
    return tell(build(11, SIZE))


def test_one_seed_tells_one_story(story):
    assert tell(build(11, SIZE)) == story
    assert tell(build(12, SIZE)).runs != story.runs


def test_every_kind_of_trouble_happens(story):
    assert {outage.kind for outage in story.outages} == {"link", "site", "crash"}
    assert any(occasion.run is None for occasion in story.occasions)
    assert any(run.killed for run in story.runs)
    assert any(run.slow for run in story.runs)
    assert any(run.attempt == 2 for run in story.runs)
    assert any(run.job.interval_s is None for run in story.runs)
    assert any(isinstance(job.schedule, After) for job in story.fab.jobs)
    assert any(one.run and one.late_ns < one.run.start_ns < one.missed_ns for one in story.occasions)
    assert any(one.run and one.run.start_ns > one.missed_ns for one in story.occasions)


def test_a_run_is_one_run_and_ends_after_it_began(story):
    assert len({(run.trace_id, run.span_id) for run in story.runs}) == len(story.runs)
    assert all(START_NS - 60 * SECOND_NS < run.start_ns < run.end_ns for run in story.runs)


def test_outages_of_one_host_leave_it_time_to_catch_up(story):
    for host in story.fab.hosts:
        own = [one for one in story.outages if one.host == host]
        for before, after in pairwise(own):
            assert after.from_ns - before.to_ns >= LEAST_PAUSE_S * SECOND_NS


def test_a_site_that_is_cut_off_loses_all_its_links_at_once(story):
    cut = Counter((one.host.site, one.from_ns, one.to_ns) for one in story.outages if one.kind == "site")
    assert cut
    assert set(cut.values()) == {SIZE.hosts}


def test_nothing_starts_on_a_host_that_is_off_and_what_ran_there_is_cut_off(story):
    crashes = [one for one in story.outages if one.kind == "crash"]
    for crash in crashes:
        for run in (run for run in story.runs if run.host == crash.host):
            assert not crash.from_ns < run.start_ns < crash.to_ns
            if run.start_ns < crash.from_ns:
                assert run.end_ns < crash.from_ns or (run.killed and run.end_ns == crash.from_ns)


def test_a_lot_calls_once_and_only_after_it_ended_well(story):
    called = [one for one in story.occasions if isinstance(one.job.schedule, After)]
    assert called
    assert len({(one.job.key, one.lot) for one in called}) == len(called)
    well = {(run.job.key, run.lot, run.end_ns) for run in story.runs if run.result == "success" and not run.killed}
    assert all(((one.job.site, one.job.schedule.job), one.lot, one.nominal_ns) in well for one in called)


def test_durations_follow_the_hour_of_the_day():
    job = next(job for job in build(11, SIZE).jobs if job.season and not job.growth)
    noon, night = START_NS + 20 * 3600 * SECOND_NS, START_NS + 8 * 3600 * SECOND_NS
    assert usual_s(job, noon) == pytest.approx(job.typical_s * (1 + job.season))
    assert usual_s(job, night) == pytest.approx(job.typical_s)
