"""Messages wait in their queues while nothing gets through, keep their order there, and mean what really happened."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from wafermonitor.alerting.simulator.batches import batch
from wafermonitor.alerting.simulator.fab import START_NS, Host, Size, build
from wafermonitor.alerting.simulator.story import Outage, Story, tell
from wafermonitor.alerting.simulator.telling import LONGEST_BACKOFF_S, SPAN, Arrival, Message, arrivals, served
from wafermonitor.alerting.simulator.truth import NEVER, Heard, What, facts
from wafermonitor.runs.lifecycle import FEED_BEAT
from wafermonitor.runs.merge import merge_all
from wafermonitor.runs.state import SECOND_NS, Limits

SIZE = Size(sites=2, hosts=2, jobs=5, days=0.3, outages=8.0, slow=0.1, lead_s=86_400.0)


@pytest.fixture(scope="module")
def story() -> Story:
    return tell(build(6, SIZE))


@pytest.fixture(scope="module")
def arrived(story) -> list[Arrival]:
    return list(arrivals(story))


def test_all_arrives_in_order_of_arrival_and_after_it_was_said(arrived):
    assert all(a.received_ns <= b.received_ns for a, b in pairwise(arrived))
    assert all(one.received_ns > one.message.at_ns for one in arrived)


def test_nothing_gets_through_while_a_link_is_down(story, arrived):
    assert story.outages
    for outage in story.outages:
        through = [
            one for one in arrived if one.message.host == outage.host and outage.from_ns < one.received_ns < outage.to_ns
        ]
        assert not through


def test_the_two_queues_of_a_host_come_back_at_different_times(story, arrived):
    """A final span is overtaken by beats of the feed that were said long after it: what a watermark must not be fooled by."""
    overtaken = 0
    newest: dict[Host, int] = {}
    for _, message in arrived:
        if message.event == FEED_BEAT:
            newest[message.host] = max(message.at_ns, newest.get(message.host, 0))
        elif message.event == SPAN:
            overtaken += newest.get(message.host, 0) - message.at_ns > 60 * SECOND_NS
    assert overtaken


def test_a_queue_is_served_in_order_at_its_speed_once_the_link_is_back():
    host = Host("fab1", "h1")
    down = Outage(host, START_NS, START_NS + 100 * SECOND_NS, "link")
    said = [Message(START_NS + second * SECOND_NS, host, FEED_BEAT) for second in range(1, 101)]
    got = list(served(said, [down], 2.0, Random(1)))
    assert [one.message for one in dict.fromkeys(got)] == said or len(got) > len(said)
    assert got[0].received_ns >= down.to_ns
    assert got[-1].received_ns <= down.to_ns + round((LONGEST_BACKOFF_S + 60) * SECOND_NS)
    assert all(b.received_ns - a.received_ns >= SECOND_NS // 2 for a, b in pairwise(got))


def test_what_the_records_say_is_what_happened(story, arrived):
    """Merged in any order, they tell of each run its start by the clock of its host, how it ended, and on which feed."""
    shuffled = list(arrived)
    Random(2).shuffle(shuffled)
    known = {run.span_id: run for run in merge_all(batch(shuffled).runs)}
    assert known.keys() == {run.span_id for run in story.runs}
    for run in story.runs:
        told = known[run.span_id]
        assert told.start_ns == run.host.clock_ns(run.start_ns) or run.host.drift_ppm
        assert abs(told.start_ns - run.host.clock_ns(run.start_ns)) < SECOND_NS
        assert told.ended == (not run.killed)
        assert told.feed == run.host.name
        assert told.result == (None if run.killed else run.result)


def test_beats_of_a_clock_that_is_ahead_never_move_a_watermark_beyond_now(story, arrived):
    feeds = batch(arrived).feeds
    ahead = [beat for beat in feeds if beat.feed == story.fab.hosts[0].name]
    assert ahead
    assert all(beat.beat_ns <= beat.received_ns for beat in feeds)
    assert min(beat.skew_ns for beat in ahead) < -86_000 * SECOND_NS


def test_facts_can_be_known_only_after_they_are_so_and_never_while_the_link_is_down(story, arrived):
    heard, limits = Heard(Limits()), Limits()
    heard.add(arrived)
    found = list(facts(story, heard, limits))
    assert {fact.what for fact in found} == set(What)
    for fact in found:
        assert fact.known_ns < fact.until_ns
        if fact.known_ns == NEVER:
            continue
        host = fact.thing.job.host
        assert not any(one.host == host and one.from_ns < fact.known_ns < one.to_ns for one in story.outages)
        if fact.what in {What.LATE, What.MISSED}:
            limit_ns = fact.thing.late_ns if fact.what is What.LATE else fact.thing.missed_ns
            assert fact.known_ns > limit_ns
            # Said of no run that came in time, whatever an outage did to its messages.
            assert fact.thing.run is None or fact.thing.run.start_ns > limit_ns
        elif fact.what is not What.OVERDUE:
            assert fact.thing.killed
