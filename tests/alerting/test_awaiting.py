"""The runs that an expectation waits for: made in time, judged by what is known, settled when nothing can change them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wafermonitor.alerting.awaiting import (
    LOOK_AHEAD_NS,
    MOST_MADE,
    Told,
    assess,
    called,
    due,
    scheduled,
    starts_of,
    waits,
)
from wafermonitor.alerting.expecting import After, Wish
from wafermonitor.alerting.schedule import Calendar, Cron, Every
from wafermonitor.runs.alerts import Expectation, ExpectedRun, Origin
from wafermonitor.runs.expectations import ExpectedState
from wafermonitor.runs.pairing import Start, pair
from wafermonitor.runs.records import Feed, Run, RunKey
from wafermonitor.runs.state import Limits
from wafermonitor.storage.protocol import StoredStart

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
T0 = 1_792_864_800 * SECOND  # 2026-10-24T18:00Z, seven hours before Europe's clocks go back
LIMITS = Limits()
HOURLY = Wish(Every(3600, T0))


def expectation(since: int = T0, watched: int | None = None, job: str = "b") -> Expectation:
    return Expectation("e", "f1", job, Origin.DECLARED, "{}", since, since if watched is None else watched, since)


def rows(*minutes: int, wish: Wish = HOURLY) -> list[ExpectedRun]:
    return [waits(expectation(), wish, T0 + minute * MINUTE, T0) for minute in minutes]


def start(minute: float, span: int = 1) -> Start:
    return Start(T0 + int(minute * MINUTE), run=RunKey("f1", bytes(16), span.to_bytes(8)))


def judged(waiting: list[ExpectedRun], starts: list[Start], now: float, known: float | None = None) -> list[str]:
    told = Told(T0 + int((now if known is None else known) * MINUTE))
    return [row.state.value for row in assess(waiting, starts, told, T0 + int(now * MINUTE), LIMITS)]


def stored(minute: float, span: int = 1, **fields: object) -> StoredStart:
    known = StoredStart(
        key=RunKey("f1", bytes(16), span.to_bytes(8)),
        job="b",
        start_ns=T0 + int(minute * MINUTE),
        received_ns=T0 + int(minute * MINUTE) + SECOND,
        nominal_ns=None,
        run_id=f"r{span}",
        attempt=None,
        lot_ids=(),
        feed=None,
        announced=True,
        end_ns=None,
        result=None,
    )
    return known._replace(**fields)


def test_a_schedule_makes_what_is_due_and_the_next_one():
    made, watched = scheduled(expectation(), HOURLY, T0 + 2 * HOUR + MINUTE)
    assert [(row.due.nominal_ns - T0) // HOUR for row in made] == [0, 1, 2, 3]
    assert watched == T0 + 3 * HOUR + 1
    assert scheduled(expectation(watched=watched), HOURLY, T0 + 2 * HOUR + MINUTE)[0][0].due.nominal_ns == T0 + 4 * HOUR


def test_what_was_made_is_not_made_again_whenever_the_next_tick_is():
    at, watched, nominals = T0, T0, []
    while at < T0 + 3 * DAY:
        made, watched = scheduled(expectation(watched=watched), Wish(Cron("0 */6 * * *", "Europe/Berlin")), at)
        nominals += [row.due.nominal_ns for row in made]
        at += 7 * HOUR
    assert nominals == sorted(set(nominals))
    assert len([one for one in nominals if one < T0 + 3 * DAY]) == 12


def test_a_run_opens_not_before_the_middle_between_it_and_the_one_before():
    minutely = Wish(Cron("* * * * *"), early_s=60)
    made, watched = scheduled(expectation(), minutely, T0 + 5 * MINUTE)
    made += scheduled(expectation(watched=watched), minutely, T0 + 8 * MINUTE)[0]
    assert {row.due.nominal_ns - row.due.opens_ns for row in made} == {30 * SECOND}
    (first, *_), _ = scheduled(expectation(), Wish(Cron("0 * * * *"), early_s=60), T0)
    assert first.due.nominal_ns - first.due.opens_ns == MINUTE
    assert scheduled(expectation(), Wish(Cron("* * * * *"), early_s=366 * 86_400), T0)[0]


def test_a_job_of_every_minute_is_settled_as_time_goes_on():
    made, _ = scheduled(expectation(), Wish(Cron("* * * * *"), start_margin_s=10, grace_s=20), T0 + 9 * MINUTE)
    starts = [start(minute + 0.02, minute + 1) for minute in range(10) if minute != 4]
    told = Told(T0 + 9 * MINUTE + 45 * SECOND)
    after = assess(made, starts, told, T0 + 10 * MINUTE, LIMITS)
    assert [row.state.value for row in after[:6]] == ["met"] * 4 + ["missed", "met"]
    assert all(row.settled for row in after[:9])


def test_a_long_absence_is_made_up_for_in_portions_and_up_to_a_limit():
    wish, now = Wish(Every(60, T0)), T0 + 10 * DAY
    made, watched = scheduled(expectation(), wish, now, catch_up_ns=DAY)
    assert len(made) == MOST_MADE
    assert made[0].due.nominal_ns == now - DAY
    assert watched == made[-1].due.nominal_ns + 1


def test_a_schedule_that_never_comes_in_sight_is_looked_at_again_later():
    wish = Wish(Every(3600, T0), Calendar(weekdays=frozenset(range(7))))
    made, watched = scheduled(expectation(), wish, T0)
    assert not made
    assert watched > T0 + LOOK_AHEAD_NS


def test_the_hour_that_comes_twice_is_one_run_and_quarters_follow_real_time():
    """Europe's clocks went back at 01:00Z: local 02:30 comes twice."""
    begin, end = T0 + 6 * HOUR, T0 + 9 * HOUR
    for cron, count in (("30 2 * * *", 1), ("*/15 * * * *", 12)):
        made, _ = scheduled(expectation(begin), Wish(Cron(cron, "Europe/Berlin")), end)
        assert len([row for row in made if row.due.nominal_ns < end]) == count


@pytest.mark.parametrize(
    ("began", "now", "states"),
    [
        ([], 5, ["expected"]),
        ([], 5.1, ["late"]),
        ([], 20.1, ["missed"]),
        ([0.5], 30, ["met"]),
        ([-0.9], 1, ["met"]),
        ([-1.1], 1, ["expected"]),
        ([45], 46, ["met"]),
    ],
    ids=["in time", "late", "missed", "met", "early", "too early", "came after it was missed"],
)
def test_one_run_is_waited_for(began, now, states):
    assert judged(rows(0), [start(at) for at in began], now) == states


def test_while_the_feed_is_behind_nothing_is_said():
    assert judged(rows(0), [], 300, known=4) == ["unknown"]
    assert judged(rows(0), [], 300, known=6) == ["late"]


def test_a_verdict_is_taken_back_by_a_run_and_by_nothing_else():
    missed = assess(rows(0), [], Told(T0 + HOUR), T0 + HOUR, LIMITS)
    assert missed[0].state is ExpectedState.MISSED
    # A feed that was given up comes back, and tells from where it was.
    assert judged(missed, [], 61, known=-200) == ["missed"]
    assert judged(missed, [start(4)], 61, known=-200) == ["met"]


def test_where_windows_overlap_a_run_of_the_next_may_turn_out_to_be_the_late_one():
    wish = Wish(Every(600, T0), early_s=60, start_margin_s=300, grace_s=300)
    waiting = rows(0, 10, wish=wish)
    # At 9.5 a run starts: the second one's, early, or the first one's, late?
    assert judged(waiting, [start(9.5)], 10.5) == ["late", "met"]
    assert judged(waiting, [start(9.5)], 15.5) == ["missed", "met"]
    assert judged(waiting, [start(9.5), start(11, 2)], 12) == ["met", "met"]


def test_where_runs_come_more_often_than_they_may_be_late_a_missing_one_is_told_one_run_later():
    wish = Wish(Every(60, T0), early_s=10, start_margin_s=300, grace_s=600)
    waiting = rows(*range(20), wish=wish)
    began = [start(at + 0.1, at + 1) for at in range(20) if at != 3]
    assert judged(waiting, began[:8], 8.5)[3] == "expected"
    assert judged(waiting, began[:9], 9.1)[3] == "late"
    assert judged(waiting, began, 19.2)[3] == "missed"
    assert judged(waiting, began, 19.2)[:3] == ["met"] * 3


def test_what_is_met_is_settled_when_no_earlier_run_can_come():
    waiting = assess(rows(0, 60), [start(1)], Told(T0 + 4 * MINUTE), T0 + 4 * MINUTE, LIMITS)
    assert [row.settled for row in waiting] == [False, False]
    later = assess(waiting, [start(1)], Told(T0 + 6 * MINUTE), T0 + 6 * MINUTE, LIMITS)
    assert [row.settled for row in later] == [True, False]


def test_what_is_missed_is_settled_when_the_next_one_opens():
    waiting = assess(rows(0, 60), [], Told(T0 + 58 * MINUTE), T0 + 58 * MINUTE, LIMITS)
    assert [(row.state.value, row.settled) for row in waiting] == [("missed", False), ("expected", False)]
    later = assess(waiting, [], Told(T0 + 60 * MINUTE), T0 + 60 * MINUTE, LIMITS)
    assert [row.settled for row in later] == [True, False]


def test_of_however_many_that_wait_none_is_settled_before_anybody_knows():
    wish = Wish(Every(60, T0), early_s=30, start_margin_s=20, grace_s=20)
    made, _ = scheduled(expectation(), wish, T0 + 6 * HOUR)
    cut = assess(made, [], Told(T0 - MINUTE), T0 + 6 * HOUR, LIMITS)
    assert {row.state.value for row in cut[:-2]} == {"unknown"}
    assert not any(row.settled for row in cut)
    after = assess(cut, [], Told(T0 + 6 * HOUR), T0 + 6 * HOUR, LIMITS)
    assert {(row.state.value, row.settled) for row in after[:359]} == {("missed", True)}


@pytest.mark.parametrize("nominal", [False, True], ids=["by time", "by nominal time"])
def test_many_that_wait_are_met_as_if_they_were_paired_at_once(nominal):
    """Some never came, some came late, some twice, so that pairs reach over the ends of slices."""
    wish = Wish(Every(60, T0), early_s=30, start_margin_s=100, grace_s=200)
    made, _ = scheduled(expectation(), wish, T0 + 490 * MINUTE)
    starts = [start(at + (at % 9) * 0.4, at + 1) for at in range(480) if at % 7 and at not in {198, 199, 200, 201, 449}]
    if nominal:
        starts = [one._replace(nominal_ns=T0 + at // 2 * MINUTE) for at, one in enumerate(starts)]
    starts += [one._replace(start_ns=one.start_ns + 5 * SECOND, occasion="twice") for one in starts[::50]]
    now = T0 + 495 * MINUTE
    sliced = assess(made, starts, Told(now), now, LIMITS)
    whole = pair([row.due for row in made], starts, now)
    assert [row.start_ns for row in sliced] == [None if one is None else one.start_ns for one in whole]


def test_the_start_that_was_seen_first_counts_when_an_applications_clock_is_ahead():
    waiting = assess(rows(0, 60), [start(1)], Told(T0 + 2 * MINUTE), T0 + 2 * MINUTE, LIMITS)
    drifting = assess(waiting, [start(59.5)], Told(T0 + 60 * MINUTE), T0 + 60 * MINUTE, LIMITS)
    assert drifting[0].start_ns == T0 + MINUTE


def test_an_application_a_day_ahead_is_put_back_by_what_its_job_is_known_to_be_ahead_by_though_it_was_told_of_late():
    late = {"received_ns": T0 + 50 * MINUTE, "end_ns": T0 + DAY + 5 * MINUTE}
    told = [stored(24 * 60, span=1, **late), stored(24 * 60 + 30, span=2, **late | {"end_ns": T0 + DAY + 35 * MINUTE})]
    starts = starts_of(told, {}, ahead_ns=DAY)
    assert judged(rows(0, 30, wish=Wish(Every(1800, T0))), starts, 50) == ["met", "met"]
    assert [one.start_ns for one in starts] == [T0, T0 + 30 * MINUTE]
    # Of what does not come from the future the clock is right by now.
    assert starts_of([stored(0, end_ns=T0 + 1, received_ns=T0 + 2)], {}, ahead_ns=DAY)[0].start_ns == T0


def test_a_second_attempt_is_no_second_run_and_a_constant_run_id_no_attempt():
    retried = starts_of([stored(0, 1, run_id="LOT", attempt=1), stored(9, 2, run_id="LOT", attempt=2)], {})
    assert judged(rows(0, 10, wish=Wish(Every(600, T0))), retried, 40) == ["met", "missed"]
    constant = starts_of([stored(0, 1, run_id="nightly"), stored(10, 2, run_id="nightly")], {})
    assert judged(rows(0, 10, wish=Wish(Every(600, T0))), constant, 40) == ["met", "met"]


def caller(**fields: object) -> Run:
    known = {"job": "a", "start_ns": T0, "end_ns": T0 + HOUR, "end_rank": 2, "result": "success", "lot_ids": ("L1", "L2")}
    return Run(site="f1", trace_id=bytes(16), span_id=bytes(8), **(known | fields))  # type: ignore[arg-type]


AFTER = Wish(After("a", 7200))


def test_a_run_that_ends_well_calls_for_one_of_each_of_its_lots():
    made = called(expectation(), AFTER, caller(), {}, T0 + 2 * HOUR)
    assert [(row.subject, row.due.nominal_ns) for row in made] == [("L1", T0 + HOUR), ("L2", T0 + HOUR)]
    assert made[0].due == due(AFTER, T0 + HOUR)
    assert made[0].due.late_ns == T0 + 3 * HOUR


@pytest.mark.parametrize(
    "other",
    [
        {"job": "c"},
        {"result": "failure"},
        {"end_rank": 0, "end_ns": None, "result": None},
        {"end_ns": T0 - HOUR},
    ],
    ids=["another job", "ended badly", "goes on", "before anything was expected"],
)
def test_other_runs_call_for_nothing(other):
    assert not called(expectation(), AFTER, caller(**other), {}, T0 + 2 * HOUR)


def test_a_start_may_call_too_and_the_feeds_clock_is_set_right():
    wish, feed = Wish(After("a", 60, same_lot=False, on="start")), Feed("f1", "h", T0, T0, 5 * MINUTE)
    made = called(expectation(), wish, caller(feed="h", received_ns=T0 + HOUR), {("f1", "h"): feed}, T0 + HOUR)
    assert [(row.subject, row.due.nominal_ns) for row in made] == [("", T0 + 5 * MINUTE)]


@given(
    st.lists(st.integers(0, 400), max_size=8),
    st.lists(st.integers(1, 60), min_size=1, max_size=8),
    st.integers(0, 3),
)
def test_however_often_it_is_looked_the_end_is_the_same(began, steps, seed):
    """Looking every few minutes, or now and then, or once at the end: the same runs are met, the others missed."""
    wish = Wish(Every(1800, T0), early_s=60, start_margin_s=300, grace_s=60 + 600 * seed)
    begun = [start(at, number + 1) for number, at in enumerate(sorted(set(began)))]

    def play(steps_min: list[int]) -> list[tuple[int, str, int | None]]:
        waiting, watched, done, now = [], T0, [], T0
        for step in [*steps_min, 10_000]:
            now = min(now + step * MINUTE, T0 + 460 * MINUTE)
            made, watched = scheduled(expectation(watched=watched), wish, now)
            heard = [one for one in begun if one.start_ns <= now]
            first = min((row.due.opens_ns for row in waiting + made), default=0)
            looked = assess(waiting + made, [one for one in heard if one.start_ns >= first], Told(now), now, LIMITS)
            done += [row for row in looked if row.settled]
            waiting = [row for row in looked if not row.settled]
        ended = [row for row in done + waiting if row.due.nominal_ns <= T0 + 420 * MINUTE]
        return sorted((row.due.nominal_ns, row.state.value, row.start_ns) for row in ended)

    assert play([4] * 115) == play([])
    assert play(steps * 10) == play([])
