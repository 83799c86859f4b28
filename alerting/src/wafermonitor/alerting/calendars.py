"""Calendars as sites declare them: days of the week, public holidays of a country, own days, maintenance windows.

In: plain values of a file. Out: `schedule.Calendar`; ScheduleRejected says what is wrong. Called by: declared.

Public holidays come from the package `holidays`, which knows them by country and subdivision for years to come.
"""

from __future__ import annotations

import difflib
from datetime import date, datetime
from functools import lru_cache

import holidays

from wafermonitor.alerting.errors import ScheduleRejected
from wafermonitor.alerting.schedule import Closed

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
YEARS = (-1, 4)
"""Public holidays are known from the year before this one to before the fourth after it."""


@lru_cache(maxsize=64)
def public_holidays(country: str, subdivision: str | None, year: int) -> frozenset[date]:
    """Public holidays around `year`, which is this one: of a country by its ISO 3166 code, and of a part of it."""
    known = holidays.list_supported_countries()
    if country not in known:
        near = difflib.get_close_matches(country.upper(), known, 1, 0.5)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ScheduleRejected(f"country {country!r} has no known holidays{hint}: expected a code such as DE, TW or US")
    if subdivision is not None and subdivision not in known[country]:
        parts = ", ".join(known[country][:20]) or "none"
        raise ScheduleRejected(f"subdivision {subdivision!r} is no part of {country}: expected one of {parts}")
    years = range(year + YEARS[0], year + YEARS[1])
    return frozenset(holidays.country_holidays(country, subdiv=subdivision, years=years))


def weekday(name: str) -> int:
    """`mon` → 0."""
    day = name.strip().lower()[:3]
    if day not in WEEKDAYS or not name.isalpha():
        raise ScheduleRejected(f"{name!r} is no day of the week: expected {', '.join(WEEKDAYS)}")
    return WEEKDAYS.index(day)


def day(text: str) -> date:
    """`2026-12-24` → that day."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ScheduleRejected(f"{text!r} is no day: expected a date such as 2026-12-24") from None


def stretch(start: str, end: str, why: str = "") -> Closed:
    """From one local time to another, such as a maintenance window."""
    first, last = _local(start), _local(end)
    if last <= first:
        raise ScheduleRejected(f"from {start} to {end}: expected an end after the start")
    return Closed(first, last, why)


def _local(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ScheduleRejected(f"{text!r} is no time: expected a local time such as 2026-12-22T06:00") from None
    if found.tzinfo is not None:
        raise ScheduleRejected(f"{text!r} has an offset: expected a local time, which the calendar's zone explains")
    return found
