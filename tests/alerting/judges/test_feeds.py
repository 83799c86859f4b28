"""One alert for one outage; late records where nobody beats; clocks."""

from __future__ import annotations

import pytest

from tests.alerting.judges.world import (
    DAY,
    HOUR,
    NOW,
    SECOND,
    SITE,
    Ticks,
    ended,
    evidence,
    feed,
    feeds,
    found,
    rule,
    snapshot,
)  # fmt: skip
from wafermonitor.alerting.judges import judge
from wafermonitor.runs.records import Feed


@pytest.mark.parametrize(("behind_s", "told"), [(0, 0), (45, 0), (45.1, 1), (3600, 1), (90_000, 1), (604_801, 0)])
def test_a_feed_is_behind_when_its_watermark_lags_more_than_margin_and_behind(behind_s, told):
    assert len(found(rule("feed_behind"), feeds=feeds(feed(behind_s)))) == told


def test_it_is_told_since_the_last_beat():
    (one,) = found(rule("feed_behind"), feeds=feeds(feed(600)))
    assert one.since_ns == NOW - 600 * SECOND
    assert one.summary == ("Feed etch-pc of site fab1 is behind since 2026-09-21T14:03:20Z (10 min); what it runs is unknown")
    assert evidence(one) == {"behind_s": 600.0, "dark": False}
    (dark,) = found(rule("feed_behind"), feeds=feeds(feed(90_000)))
    assert evidence(dark)["dark"]
    assert dark.fingerprint == one.fingerprint


def test_an_outage_is_one_alert_however_its_queue_drains():
    """The link is cut for an hour; then the watermark catches up in leaps, and lags a little at the end."""
    ticks = Ticks(rule("feed_behind"))
    lags = [5, 30, 44, 46, *range(60, 3600, 60), 3000, 3010, 1200, 46, 44, 40, 31, 23, 22, 30, 44, 5]
    told = [bool(ticks.tick(feeds=feeds(feed(lag)))) for lag in lags]
    first = lags.index(46)
    assert told == [first <= index < lags.index(22) for index in range(len(lags))]
    assert ticks.opened == 1


def test_a_wrong_clock_is_no_outage():
    assert not found(rule("feed_behind"), feeds=feeds(feed(5, skew_ns=HOUR)))
    assert not found(rule("feed_behind"), feeds=feeds(feed(5, skew_ns=-HOUR)))
    (one,) = found(rule("feed_behind"), feeds=feeds(feed(600, skew_ns=HOUR)))
    assert one.since_ns == NOW - 600 * SECOND


def test_a_feed_that_never_beat_is_never_behind():
    silent = Feed(SITE, "x", None, NOW - DAY, 0)
    assert not found(rule("feed_behind"), feeds={(SITE, "x"): silent})


def test_each_feed_of_a_site_is_judged_by_itself():
    two = found(rule("feed_behind"), feeds=feeds(feed(600), feed(600, name="litho-pc"), feed(name="cmp-pc")))
    assert sorted(one.subject.feed or "" for one in two) == ["etch-pc", "litho-pc"]


def many(behind: int, well: int, lag_s: float = 400):
    return feeds(*(feed(lag_s, name=f"b{i}") for i in range(behind)), *(feed(name=f"w{i}") for i in range(well)))


@pytest.mark.parametrize(("behind", "well", "told"), [(2, 0, 0), (3, 0, 1), (2, 2, 0), (3, 2, 1)])
def test_when_most_feeds_are_behind_it_is_not_their_links(behind, well, told):
    assert len(found(rule("ingestion_lag"), feeds=many(behind, well))) == told


def test_most_feeds_behind_is_told_with_numbers():
    (one,) = found(rule("ingestion_lag"), feeds=many(3, 1))
    assert one.summary == "3 of 4 feeds are behind by 6 min 40 s or more: look at the receiver"
    assert one.since_ns == NOW - 400 * SECOND
    assert not found(rule("ingestion_lag"), feeds=many(3, 1, 299))


def arrives(lag_s: float, name: str = "a", **fields):
    return ended(name, received_ns=NOW, end=NOW - round(lag_s * SECOND), **fields)


def test_records_of_a_site_without_beats_that_come_late():
    ticks = Ticks(rule("ingestion_lag"))
    late = [arrives(400, "a"), arrives(5, "b"), arrives(500, "c")]
    (alert,) = ticks.tick(ended=late, feeds={})
    assert alert.summary == "Runs of site fab1 arrive 6 min 40 s after they ended"
    assert ticks.tick(NOW + 600 * SECOND, feeds={})
    assert not ticks.tick(NOW + 600 * SECOND, ended=[arrives(5)], feeds={})
    assert ticks.tick(ended=late, feeds={})
    assert not ticks.tick(NOW + HOUR, feeds={}), "nothing more came late for an hour"


def test_late_records_of_a_feed_that_beats_are_that_feeds_lag():
    assert not found(rule("ingestion_lag"), ended=[arrives(400)])


@pytest.mark.parametrize(("skew_s", "words"), [(61, "behind"), (-61, "ahead"), (60, None), (0, None)])
def test_a_clock_that_is_wrong(skew_s, words):
    told = judge(rule("clock_wrong"), snapshot(feeds=feeds(feed(skew_ns=skew_s * SECOND))))
    assert [one.summary for one in told] == ([f"The clock of feed etch-pc of site fab1 is 1 min 1 s {words}"] if words else [])
