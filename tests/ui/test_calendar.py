"""A month of expected runs as a grid: every expected run in its day, whatever the viewer's zone does."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as some

from wafermonitor.query.models import ExpectedRunModel
from wafermonitor.ui import calendar
from wafermonitor.ui.states import look_of_expected

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia")


def expected(nominal, state="met", late_s=0.0, **fields):
    at = {"nominal": nominal, "opens": nominal, "missed_after": nominal + timedelta(minutes=20)}
    at |= {"late_after": nominal + timedelta(minutes=5), "changed": nominal}
    if state == "met":
        at["start"] = nominal + timedelta(seconds=late_s)
        fields |= {"late_s": late_s}
    times = {name: moment.isoformat() for name, moment in at.items()}
    return ExpectedRunModel(expectation="nightly", job="audit", state=state, settled=True, **times, **fields)


@given(some.dates(date(2025, 1, 1), date(2030, 12, 1)), some.sampled_from(ZONES))
def test_every_run_of_the_grid_is_in_exactly_one_of_its_days(day, zone_name):
    zone = ZoneInfo(zone_name)
    month = day.replace(day=1)
    begin, end = (datetime.fromisoformat(text) for text in calendar.bounds(month, zone))
    count = int((end - begin) / timedelta(hours=1))
    runs = [expected(begin.astimezone(UTC) + timedelta(hours=number, minutes=30)) for number in range(count)]
    weeks = calendar.weeks(runs, month, zone, day)
    days = [one for week in weeks for one in week]
    assert all(len(week) == 7 for week in weeks)
    assert sum(one.number for entry in days for one in entry.counts) == count
    assert date.fromisoformat(days[0].date).weekday() == 0
    assert [entry.date for entry in days if entry.today] == [day.isoformat()]
    inside = [entry.date for entry in days if entry.inside]
    assert inside[0] == month.isoformat()
    assert len(inside) == (calendar.next_month(month, 1) - month).days


def test_a_day_shows_its_worst_and_few_runs_one_by_one():
    at = datetime(2026, 5, 4, 2, tzinfo=UTC)
    few = [expected(at), expected(at + timedelta(hours=8), "missed")]
    many = [expected(at + timedelta(days=1, minutes=number)) for number in range(50)]
    days = {day.date: day for week in calendar.weeks([*few, *many], date(2026, 5, 1), UTC, at.date()) for day in week}
    assert days["2026-05-04"].look.key == "missed"
    assert [mark.look.key for mark in days["2026-05-04"].marks] == ["met", "missed"]
    assert days["2026-05-04"].words == "Monday 4 May: 1 missed, 1 met"
    assert days["2026-05-05"].marks == []
    assert [(one.look.key, one.number) for one in days["2026-05-05"].counts] == [("met", 50)]
    assert days["2026-05-06"].look is None


@pytest.mark.parametrize(
    ("state", "late_s", "key"),
    [("met", 299, "met"), ("met", 301, "came-late"), ("met", -30, "met"), ("late", 0, "late"), ("missed", 0, "missed"),
     ("unknown", 0, "unknown"), ("expected", 0, "expected")],
)  # fmt: skip
def test_an_expected_run_looks_as_it_went(state, late_s, key):
    assert look_of_expected(expected(datetime(2026, 5, 4, tzinfo=UTC), state, late_s)).key == key


def test_months_follow_each_other_over_the_year():
    assert calendar.next_month(date(2026, 12, 1), 1) == date(2027, 1, 1)
    assert calendar.next_month(date(2026, 1, 1), -1) == date(2025, 12, 1)
    assert calendar.month_of("", date(2026, 5, 29)) == date(2026, 5, 1)
    assert calendar.month_of("2026-02", date(2026, 5, 29)) == date(2026, 2, 1)
