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
    ],
)
def test_a_spec_that_is_wrong_is_named(spec, named):
    with pytest.raises(ScheduleRejected, match=named):
        loads(spec)
