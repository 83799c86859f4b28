"""How many hours a queue holds, and what was lost, from two looks at the Collector's own metrics."""

import pytest

from wafermonitor.collector import queue
from wafermonitor.instrumentation.onward import Page, Queue


def test_the_hours_are_the_room_of_the_fullest_signal_at_the_present_rate():
    before = {"x": Queue(entered=0.0, free=7.2e9, used=0.0, refused=0.0)}
    after = {"x": Queue(entered=1e7, free=7.2e9, used=2e6, refused=0.0)}
    (report,) = queue.reports(before, after, elapsed_s=10.0)
    assert report.rate == 1e6
    assert report.hours == pytest.approx(2.0)
    assert str(report) == "the queue of x holds 2.0 h or more at 1.0 MB/s, 2.0 MB wait"


def test_an_idle_queue_has_no_hours():
    same = {"x": Queue(entered=5.0, free=100.0, used=0.0, refused=0.0)}
    (report,) = queue.reports(same, same, elapsed_s=10.0)
    assert report.hours is None
    assert str(report) == "the queue of x is idle, 0 B wait"


def test_a_full_queue_says_what_it_refused():
    before = {"x": Queue(entered=5.0, free=0.0, used=100.0, refused=2.0)}
    after = {"x": Queue(entered=5.0, free=0.0, used=100.0, refused=12.0)}
    (report,) = queue.reports(before, after, elapsed_s=10.0)
    assert str(report) == "the queue of x is full: 10 items were refused and wait at their senders"


def test_counters_that_began_anew_do_not_make_a_negative_rate():
    before = {"x": Queue(entered=1e9, free=100.0, used=0.0, refused=50.0)}
    after = {"x": Queue(entered=1000.0, free=100.0, used=0.0, refused=0.0)}
    (report,) = queue.reports(before, after, elapsed_s=10.0)
    assert report.rate == 100.0
    assert report.refused == 0.0


@pytest.mark.parametrize(
    ("before", "now", "items"),
    [({}, {"Unauthenticated": 8.0}, 8.0), ({"Unauthenticated": 8.0}, {"Unauthenticated": 9.0, "Internal": 1.0}, 2.0)],
)
def test_a_loss_names_its_cause_and_what_to_do(before, now, items):
    (loss,) = queue.losses(Page({}, {}, {"x": before}), Page({}, {}, {"x": now, "y": {}}))
    assert loss == queue.Loss("x", items, "Unauthenticated")
    assert str(loss).startswith(f"DATA IS LOST: x dropped {items:.0f} records (Unauthenticated): the receiver does not accept")
    assert "set WAFER_TOKEN" in str(loss)


def test_nothing_more_lost_is_no_loss_and_a_restarted_collector_counts_anew():
    page = Page({}, {}, {"x": {"Internal": 8.0}})
    assert queue.losses(page, page) == []
    assert queue.losses(page, Page({}, {}, {"x": {"Internal": 3.0}})) == [queue.Loss("x", 3.0, "Internal")]
