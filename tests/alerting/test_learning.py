"""What a job seems to do by itself, proposed; nothing is expected without a person's yes."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from tests.alerting.judges.world import run
from wafermonitor.alerting.expecting import loads
from wafermonitor.alerting.learning import accepted, expectation, propose
from wafermonitor.alerting.schedule import Cron, Every
from wafermonitor.runs.alerts import Origin
from wafermonitor.runs.bands import profile
from wafermonitor.runs.pairing import Start
from wafermonitor.storage.protocol import PastRun

SECOND = 1_000_000_000
MONDAY = datetime(2026, 9, 7, tzinfo=UTC)


def ns(at: datetime) -> int:
    return int(at.timestamp()) * SECOND


def starts(times, jitter_s: float = 40.0) -> list[Start]:
    random.seed(7)
    return [Start(ns(at) + round(random.uniform(0, jitter_s) * SECOND)) for at in times]


def days(count: int = 28, *, at: str = "02:00", only=range(7), zone: str = "UTC"):
    hour, minute = map(int, at.split(":"))
    for day in range(count):
        local = (MONDAY + timedelta(days=day)).replace(hour=hour, minute=minute, tzinfo=ZoneInfo(zone))
        if local.weekday() in only:
            yield local


def every(minutes: float, count: int):
    return (MONDAY + timedelta(minutes=minutes * i) for i in range(count))


@pytest.mark.parametrize(
    ("times", "expression"),
    [
        (days(), "0 2 * * *"),
        (days(at="02:17"), "17 2 * * *"),
        (days(only=range(5)), "0 2 * * 1-5"),
        (days(only={5}), None),
        (days(84, only={5}), "0 2 * * 6"),
        (days(84, only={0, 3}), "0 2 * * 1,4"),
        ([at for hour in ("06:00", "14:00", "22:00") for at in days(at=hour)], "0 6,14,22 * * *"),
        (every(60, 200), "0 * * * *"),
        (every(15, 500), "*/15 * * * *"),
        ((at + timedelta(minutes=3) for at in every(10, 500)), "3-59/10 * * * *"),
        ([at for hour in range(8, 18) for at in days(at=f"{hour:02}:30", only=range(5))], "30 8-17 * * 1-5"),
    ],
    ids=[
        "daily",
        "minute",
        "weekdays",
        "too few",
        "weekly",
        "twice a week",
        "shifts",
        "hourly",
        "quarters",
        "offset",
        "office",
    ],
)
def test_times_of_the_clock_are_found(times, expression):
    found = propose(sorted(starts(times)), None)
    if expression is None:
        assert found is None
    else:
        assert found is not None
        assert isinstance(found.wish.schedule, Cron)
        assert found.wish.schedule.expression == expression
        assert found.right > 0.95


def test_the_zone_whose_clock_it_follows_is_found():
    """Through the end of summer time."""
    found = propose(starts(days(84, zone="Europe/Berlin")), None, ("UTC", "Europe/Berlin"))
    assert found is not None
    assert found.wish.schedule == Cron("0 2 * * *", "Europe/Berlin")


def test_missed_nights_are_seen_through_and_told():
    known = [at for index, at in enumerate(days(40)) if index not in {10, 20}]
    found = propose(starts(known), None)
    assert found is not None
    assert (found.met, found.ticks, found.runs) == (38, 40, 38)
    assert found.words == "0 2 * * * (UTC): 38 of 40 in time, 38 runs"


def test_the_margin_lets_the_usual_lateness_pass():
    found = propose(starts(days(), jitter_s=1500), None)
    assert found is not None
    assert found.wish.start_margin_s == 2700
    assert found.right > 0.9


def test_a_loop_that_drifts_is_expected_once_in_a_period():
    random.seed(3)
    at, known = MONDAY, []
    for _ in range(600):
        known.append(at)
        at += timedelta(seconds=430 + random.uniform(0, 60))
    found = propose(starts(known, 0), None)
    assert found is not None
    assert found.wish.schedule == Every(600)
    assert (found.wish.start_margin_s, found.wish.early_s) == (600, 0)
    assert found.words.startswith("once in 10 min: ")


def test_what_has_no_schedule_is_not_proposed():
    random.seed(5)
    at, known = MONDAY, []
    for _ in range(300):
        known.append(at)
        at += timedelta(seconds=random.expovariate(1 / 7000))
    assert propose(starts(known, 0), None) is None
    assert propose([], None) is None
    assert propose(starts(days(7)), None) is None


def test_attempts_of_one_run_are_one_start():
    known = [
        one
        for at in starts(days())
        for one in (at._replace(occasion=str(at)), at._replace(start_ns=at.start_ns + 600 * SECOND, occasion=str(at)))
    ]
    found = propose(known, None)
    assert found is not None
    assert found.runs == 28


def test_durations_are_bound_well_outside_what_is_usual():
    past = [
        PastRun(run(str(i)).key, one.start_ns, 1200.0 + i % 5 * 20, "success", *[None] * 5)
        for i, one in enumerate(starts(days()))
    ]
    usual = profile(past, ns(MONDAY + timedelta(days=30)))
    found = propose(starts(days()), usual)
    assert found is not None
    band = usual.band(past[-1].start_ns)
    assert band is not None
    assert found.wish.max_duration_s is not None
    assert 1.5 * band.high_s <= found.wish.max_duration_s <= 3 * band.high_s
    assert found.wish.min_duration_s is not None
    assert 60 <= found.wish.min_duration_s <= band.low_s / 2


def test_a_proposal_waits_for_nothing_until_it_is_accepted():
    found = propose(starts(days()), None)
    assert found is not None
    stored = expectation(found, "fab1", "lot yield/Ä", 1000)
    assert (stored.name, stored.site, stored.job, stored.origin) == (
        "learned.fab1.lot-yield-",
        "fab1",
        "lot yield/Ä",
        Origin.PROPOSED,
    )
    assert loads(stored.spec) == found.wish
    active = accepted(stored, 2000)
    assert (active.origin, active.since_ns, active.watched_ns, active.spec) == (Origin.API, 2000, 2000, stored.spec)
