"""What a tick knows of earlier ones: outages with their holds, runs that were told of."""

from __future__ import annotations

from wafermonitor.alerting import remembering
from wafermonitor.alerting.remembering import (
    ended,
    holds,
    newly_ended,
    numbers_text,
    outages,
    outages_text,
    read_numbers,
    read_outages,
)
from wafermonitor.runs.records import Feed, Run
from wafermonitor.runs.state import Limits

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
T0 = 1_792_864_800 * SECOND
KEY = ("f1", "h1")
LIMITS = Limits()


def after(known, told: int, now: int, ticked: int | None = None):
    feeds = {KEY: Feed("f1", "h1", T0 + told, T0 + told, 0)}
    ticked_ns = T0 + (now - 10 * SECOND if ticked is None else ticked)
    return outages(known, feeds, T0 + now, ticked_ns, LIMITS)


def test_an_outage_is_held_for_as_long_as_it_lasted():
    cut = after({}, 0, 10 * MINUTE)
    assert cut == {KEY: (T0, None)}
    assert holds(cut) == {KEY: T0}
    draining = after(cut, 5 * MINUTE, 11 * MINUTE)
    assert draining == cut
    back = after(draining, 12 * MINUTE, 12 * MINUTE)
    assert back == {KEY: (T0, T0 + 12 * MINUTE)}
    assert after(back, 23 * MINUTE, 23 * MINUTE) == back
    assert after(back, 24 * MINUTE, 24 * MINUTE) == {}


def test_a_hold_lasts_an_hour_at_most():
    back = after(after({}, 0, 5 * HOUR), 6 * HOUR, 6 * HOUR)
    assert after(back, 7 * HOUR - SECOND, 7 * HOUR - SECOND)
    assert not after(back, 7 * HOUR, 7 * HOUR)


def test_a_feed_that_falls_behind_again_is_held_from_its_first_fall():
    back = after(after({}, 0, 10 * MINUTE), 11 * MINUTE, 11 * MINUTE)
    assert after(back, 11 * MINUTE, 13 * MINUTE) == {KEY: (T0, None)}


def test_while_nobody_evaluated_there_may_have_been_an_outage():
    assert after({}, HOUR, HOUR, ticked=10 * MINUTE) == {KEY: (T0 + 10 * MINUTE, T0 + HOUR)}
    assert after({}, HOUR, HOUR, ticked=HOUR - 20 * SECOND) == {}


def test_a_feed_without_beats_has_no_outages():
    assert outages({}, {KEY: Feed("f1", "h1", None, None, 0)}, T0 + HOUR, T0, LIMITS) == {}


def test_a_note_of_outages_is_read_as_it_was_written():
    known = {KEY: (T0, None), ("f2", "h"): (T0, T0 + MINUTE)}
    assert read_outages(outages_text(known)) == known
    assert read_outages(None) == {}


def run(number: int, result: str = "success") -> Run:
    ids = number.to_bytes(16), number.to_bytes(8)
    return Run(site="f1", trace_id=ids[0], span_id=ids[1], end_rank=2, end_ns=T0, result=result)


def test_what_ended_badly_or_was_told_of_is_not_new_again():
    good, bad, told = run(1), run(2, "failure"), run(3)
    known = ended({}, [good, bad, told], {told.key}, T0)
    assert newly_ended([good, bad, told, run(4)], known) == [good, run(4)]
    assert newly_ended([run(2, "error")], known) == [run(2, "error")]
    assert read_numbers(numbers_text(known)) == known


def test_of_changes_of_one_run_the_last_counts_and_open_ones_do_not():
    assert newly_ended([run(1, "failure"), run(1)], {}) == [run(1)]
    assert newly_ended([Run(site="f1", trace_id=bytes(16), span_id=bytes(8))], {}) == []


def test_what_was_told_long_ago_is_forgotten():
    known = ended({}, [run(2, "failure")], set(), T0)
    assert ended(known, [], set(), T0 + 47 * HOUR) == known
    assert ended(known, [], set(), T0 + 48 * HOUR) == {}


def test_calls_are_remembered_for_three_days_and_of_too_many_the_newest(monkeypatch):
    monkeypatch.setattr(remembering, "MOST_CALLED", 3)
    first = remembering.called({}, ["a", "b"], T0)
    more = remembering.called(first, ["c", "a"], T0 + HOUR)
    assert more == {"b": T0, "c": T0 + HOUR, "a": T0 + HOUR}
    assert remembering.called(more, ["d"], T0 + 2 * HOUR).keys() == {"c", "a", "d"}
    assert remembering.called(more, [], T0 + 72 * HOUR) == {"c": T0 + HOUR, "a": T0 + HOUR}
