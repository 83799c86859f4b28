"""When runs are expected: cron in zones over changes of clocks, periods, calendars."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wafermonitor.alerting.calendars import stretch
from wafermonitor.alerting.errors import ScheduleRejected
from wafermonitor.alerting.schedule import ALWAYS, Calendar, Cron, Every, check, ticks

SECOND = 1_000_000_000


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND


def times(schedule, start, end, calendar=ALWAYS) -> list[str]:
    found = ticks(schedule, ns(start), ns(end), calendar)
    return [datetime.fromtimestamp(at // SECOND, UTC).strftime("%d %H:%M") for at in found]


BERLIN_2 = Cron("0 2 * * *", "Europe/Berlin")


def test_a_night_job_follows_its_zone():
    assert times(BERLIN_2, "2026-07-01", "2026-07-03") == ["01 00:00", "02 00:00"]
    assert times(BERLIN_2, "2026-12-01", "2026-12-03") == ["01 01:00", "02 01:00"]


def test_in_the_gap_of_spring_it_comes_once_right_after():
    assert times(Cron("30 2 * * *", "Europe/Berlin"), "2026-03-28T12:00", "2026-03-30T12:00") == ["29 01:00", "30 00:30"]


def test_in_the_overlap_of_autumn_it_comes_once():
    assert times(Cron("30 2 * * *", "Europe/Berlin"), "2026-10-24T12:00", "2026-10-26T12:00") == ["25 00:30", "26 01:30"]


def test_what_repeats_follows_real_time_through_both():
    assert times(Cron("*/30 * * * *", "Europe/Berlin"), "2026-10-25T00:00", "2026-10-25T02:00") == [
        "25 00:00", "25 00:30", "25 01:00", "25 01:30",
    ]  # fmt: skip


def test_the_start_of_the_range_belongs_to_it_and_the_end_does_not():
    assert times(Cron("0 * * * *"), "2026-01-01T00:00", "2026-01-01T02:00") == ["01 00:00", "01 01:00"]


def test_a_calendar_leaves_out_weekends_holidays_and_maintenance():
    plant = Calendar(
        "Europe/Berlin",
        weekdays=frozenset({5, 6}),
        holidays=frozenset({date(2026, 12, 25)}),
        closed=(stretch("2026-12-22", "2026-12-23T02:00:01", "power"),),
    )
    assert times(BERLIN_2, "2026-12-20", "2026-12-29", plant) == ["21 01:00", "24 01:00", "28 01:00"]


@given(st.floats(1, 5000), st.integers(-(10**12), 10**12), st.integers(0, 10**13), st.integers(0, 10**13))
def test_a_period_fills_the_range_without_gap_or_overlap(period_s, since, start, length):
    found = ticks(Every(period_s, since), start, start + length)
    period = round(period_s * SECOND)
    assert found == [at for at in found if start <= at < start + length and (at - since) % period == 0]
    assert len(found) in {length // period, length // period + 1}


@given(st.integers(0, 2000), st.integers(0, 2000), st.integers(0, 2000))
def test_two_ranges_beside_each_other_are_one(a, b, c):
    low, middle, high = sorted(ns("2026-10-20") + hours * 3600 * SECOND for hours in (a, b, c))
    whole = ticks(BERLIN_2, low, high)
    assert ticks(BERLIN_2, low, middle) + ticks(BERLIN_2, middle, high) == whole


@pytest.mark.parametrize(
    ("schedule", "named"),
    [
        (Cron("0 25 * * *"), "0 25 * * *"),
        (Cron("every night"), "every night"),
        (Cron("0 0 30 2 *"), "0 0 30 2 *"),
        (Cron("0 2 * * *", "Mars/Olympus"), "Mars/Olympus"),
        (Cron("0 2 * * *", "../etc/passwd"), "../etc/passwd"),
        (Every(0.2), "0.2 s"),
    ],
    ids=["hour", "words", "never", "zone", "path", "period"],
)
def test_what_cannot_be_followed_is_refused_by_name(schedule, named):
    with pytest.raises(ScheduleRejected, match="expected") as refused:
        check(schedule)
    assert named in str(refused.value)


def test_an_endless_answer_is_refused():
    with pytest.raises(ScheduleRejected, match="shorter"):
        ticks(Every(1), 0, 10**15)
