"""What an expectation wants: its spec is read as it was written, and what is wrong is named."""

from __future__ import annotations

from datetime import date, datetime

import pytest

from wafermonitor.alerting.errors import ScheduleRejected
from wafermonitor.alerting.expecting import After, Wish, dumps, loads
from wafermonitor.alerting.schedule import Calendar, Closed, Cron, Every

CALENDAR = Calendar(
    "Europe/Berlin",
    frozenset({5, 6}),
    frozenset({date(2026, 12, 25)}),
    (Closed(datetime(2026, 8, 1), datetime(2026, 8, 3, 6), "shutdown"),),  # noqa: DTZ001 - local to the calendar's zone
)


@pytest.mark.parametrize(
    "wish",
    [
        Wish(Cron("0 2 * * *", "Europe/Berlin"), CALENDAR, grace_s=60, owner="night-shift"),
        Wish(Every(900, 17), early_s=0, min_duration_s=5, max_duration_s=60, silence_s=30),
        Wish(After("etch", 7200, same_lot=False, on="start"), runbook="https://runbooks/etch"),
    ],
    ids=["cron", "period", "after"],
)
def test_a_wish_is_read_as_it_was_written(wish):
    assert loads(dumps(wish)) == wish
    assert dumps(loads(dumps(wish))) == dumps(wish)


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ("{", "no JSON"),
        ("[]", "JSON object"),
        ("{}", "one of cron, every_s, after"),
        ('{"cron":"0 2 * * *","every_s":60}', "one of cron, every_s, after"),
        ('{"cron":"0 2 * *"}', "minute, hour"),
        ('{"cron":"0 2 * * *","zone":"Mars"}', "'Mars' is no time zone"),
        ('{"every_s":0}', "one second or more"),
        ('{"after":"a","within_s":0}', "within_s"),
        ('{"after":"a","within_s":5,"on":"lunch"}', "start or end"),
        ('{"every_s":60,"grace_s":-1}', "grace_s"),
        ('{"every_s":60,"grave_s":1}', "'grave_s' is no field"),
        ('{"every_s":60,"calendar":{"hollidays":[]}}', "'hollidays' is no field"),
        ('{"every_s":"soon"}', "cannot be read"),
        ('{"every_s":NaN}', "a year at most"),
        ('{"every_s":1e300}', "a year at most"),
        ('{"every_s":60,"grace_s":1e300}', "grace_s = 1e.300: expected 0 s to a year"),
        ('{"every_s":60,"early_s":1e10}', "early_s"),
        ('{"every_s":60,"since_ns":1e30}', "since_ns"),
        ('{"every_s":60,"since_ns":-1e30}', "since_ns"),
        ('{"after":"a","within_s":1e10}', "within_s"),
        ('{"every_s":60,"min_duration_s":9,"max_duration_s":5}', "min_duration_s"),
        ('{"every_s":60,"owner":"\\ud800"}', "owner"),
        ('{"every_s":60,"owner":"a\\u0000"}', "owner.*without NUL"),
        ('{"after":"a\\u0000","within_s":60}', "after.*without NUL"),
        ('{"every_s":60,"calendar":{"closed":[["2026-08-01","2026-08-02","\\u0000"]]}}', "closed.*without NUL"),
        ('{"every_s":60,"calendar":{"weekdays":[7]}}', "weekdays"),
        ('{"every_s":60,"calendar":{"closed":[["2026-01-01T00:00:00Z","2026-01-02T00:00:00Z","x"]]}}', "no offset"),
        ('{"every_s":60,"calendar":{"closed":[["2026-01-02T00:00:00","2026-01-01T00:00:00","x"]]}}', "an end after the start"),
    ],
)
def test_a_spec_that_is_wrong_is_named(spec, named):
    with pytest.raises(ScheduleRejected, match=named):
        loads(spec)
