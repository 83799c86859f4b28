"""A month of expected runs as a grid of days: met, late, missed, unknown, expected.

In: expected runs, the month, the viewer's zone and today. Out: weeks of `Day`s. Called by: pages.job.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import date, datetime, timedelta, tzinfo
from typing import NamedTuple

from wafermonitor.query.models import ExpectedRunModel
from wafermonitor.ui.states import LOOKS, Look, look_of_expected

MARKS_MOST = 3
_WORST = ("missed", "late", "unknown", "came-late", "expected", "met")


class Mark(NamedTuple):
    """One expected run in its day."""

    look: Look
    nominal: str


class Count(NamedTuple):
    """How many of a day's expected runs look so."""

    look: Look
    number: int


class Day(NamedTuple):
    """One cell. `marks` where they are few, else `counts` alone; `look` is the worst of them, None: nothing is expected."""

    date: str
    number: int
    inside: bool
    today: bool
    look: Look | None
    marks: list[Mark]
    counts: list[Count]
    words: str


def month_of(text: str, today: date) -> date:
    """The first day of `2026-11`, of today's month where the text is empty."""
    return date.fromisoformat(f"{text}-01") if text else today.replace(day=1)


def next_month(month: date, by: int) -> date:
    """The first day of the month `by` months later."""
    months = month.year * 12 + month.month - 1 + by
    return date(months // 12, months % 12 + 1, 1)


def bounds(month: date, zone: tzinfo) -> tuple[str, str]:
    """When the grid of `month` begins and ends, RFC 3339: whole weeks from Monday, by the viewer's midnights."""
    days = [day for week in _grid(month) for day in week]
    return _midnight(days[0], zone), _midnight(days[-1] + timedelta(days=1), zone)


def weeks(runs: Sequence[ExpectedRunModel], month: date, zone: tzinfo, today: date) -> list[list[Day]]:
    """The grid of `month`, each week from Monday."""
    by_day: dict[date, list[ExpectedRunModel]] = defaultdict(list)
    for run in runs:
        by_day[day_of(run, zone)].append(run)
    return [[_day(day, by_day[day], month, today) for day in week] for week in _grid(month)]


def day_of(run: ExpectedRunModel, zone: tzinfo) -> date:
    """The viewer's day of its nominal time."""
    return datetime.fromisoformat(run.nominal).astimezone(zone).date()


def tally(runs: Sequence[ExpectedRunModel]) -> list[Count]:
    """How many look how, the worst first."""
    counts = Counter(look_of_expected(run).key for run in runs)
    return [Count(LOOKS[key], counts[key]) for key in _WORST if counts[key]]


def _day(day: date, runs: Sequence[ExpectedRunModel], month: date, today: date) -> Day:
    counts = tally(runs)
    marks = [Mark(look_of_expected(run), run.nominal) for run in runs] if len(runs) <= MARKS_MOST else []
    said = ", ".join(f"{one.number} {one.look.word}" for one in counts) or "nothing expected"
    words = f"{day:%A} {day.day} {day:%B}: {said}"
    worst = counts[0].look if counts else None
    return Day(day.isoformat(), day.day, day.month == month.month, day == today, worst, marks, counts, words)


def _midnight(day: date, zone: tzinfo) -> str:
    return datetime(day.year, day.month, day.day, tzinfo=zone).isoformat()


def _grid(month: date) -> list[list[date]]:
    first = month - timedelta(days=month.weekday())
    after = next_month(month, 1)
    count = -(-(after - first).days // 7)
    return [[first + timedelta(days=7 * week + day) for day in range(7)] for week in range(count)]
