"""What would have fired over stored history."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import pytest

from wafermonitor.alerting.declared import STANDARD, declare, load
from wafermonitor.alerting.documents import parse, read
from wafermonitor.alerting.errors import AlertingRejected
from wafermonitor.alerting.judges import KINDS
from wafermonitor.alerting.rehearsal import MOST_TICKS, NOT_REHEARSED, rehearse, step_for
from wafermonitor.runs.records import Run

SECOND = 1_000_000_000
MINUTE, HOUR, DAY = 60 * SECOND, 3600 * SECOND, 86_400 * SECOND


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND


BEGIN = ns("2026-09-01")
NIGHTLY = "expectations: {nightly: {job: lot_yield, cron: '0 2 * * *', start_margin: 10m, grace: 20m}}"


def run(start: int, took_s: float | None = 600.0, *, job: str = "lot_yield", result: str = "success", **fields) -> Run:
    digest = hashlib.sha256(f"{job} {start} {fields}".encode()).digest()
    end = None if took_s is None else start + round(took_s * SECOND)
    known = {
        "start_ns": start,
        "job": job,
        "heartbeat_interval_s": 30.0,
        "last_sign_ns": start if end is None else end,
        "received_ns": start if end is None else end,
        "end_ns": end,
        "end_rank": 0 if end is None else 2,
        "result": None if end is None else result,
    }
    return Run(site="fab1", trace_id=digest[:16], span_id=digest[16:24], **known | fields)


def nights(days: int, **others) -> dict[int, Run]:
    return {day: run(BEGIN + day * DAY + 2 * HOUR + day % 3 * SECOND, 600 + day % 5 * 10, **others) for day in range(days)}


def played(runs, text: str = "", *, from_day: int = 0, to_day: int = 30, step_s: float | None = 300.0):
    declared = declare([read(STANDARD), *([parse(text, "fab.yaml")] if text else [])], 2026)
    begin, end = BEGIN + from_day * DAY, BEGIN + to_day * DAY
    return rehearse(list(runs), declared.rules, declared.expectations, from_ns=begin, to_ns=end, step_s=step_s)


def told(rehearsed) -> list[tuple[str, str, str | None]]:
    def at(when: int | None) -> str | None:
        return None if when is None else datetime.fromtimestamp(when // SECOND, UTC).strftime("%d %H:%M:%S")

    return [(alert.rule, at(alert.opened_ns) or "", at(alert.resolved_ns)) for alert in rehearsed.fired]


def test_a_quiet_month_fires_nothing():
    rehearsed = played(nights(30).values(), NIGHTLY)
    assert told(rehearsed) == []
    assert (rehearsed.runs, rehearsed.step_s, rehearsed.ticks) == (30, 300.0, 8640)


def test_a_night_without_a_run_is_late_then_missed_until_the_next_one():
    runs = nights(30)
    del runs[10]
    assert told(played(runs.values(), NIGHTLY)) == [
        ("late", "11 02:10:15", "11 02:30:15"),
        ("missed", "11 02:30:15", "12 02:05:00"),
    ]


def test_a_run_that_came_late_was_late_until_it_came():
    runs = nights(30) | {10: run(BEGIN + 10 * DAY + 2 * HOUR + 17 * MINUTE)}
    assert told(played(runs.values(), NIGHTLY)) == [("late", "11 02:10:15", "11 02:20:00")]


def test_a_run_that_did_not_come_is_missed_although_the_next_is_due_before_that_is_known():
    minutely = "expectations: {check: {job: check, cron: '* * * * *', start_margin: 10s, grace: 20s}}"
    runs = [run(BEGIN + minute * MINUTE + SECOND, 4.0, job="check") for minute in range(1440) if minute != 100]
    fired = told(played(runs, minutely, to_day=1, step_s=10.0))
    assert [(rule, opened) for rule, opened, _ in fired] == [("late", "01 01:40:25"), ("missed", "01 01:40:45")]
    (alert,) = [alert for alert in played(runs, minutely, to_day=1, step_s=10.0).fired if alert.rule == "missed"]
    assert alert.resolved_ns is not None


def test_what_is_declared_in_a_file_may_change_the_rules():
    runs = nights(30)
    del runs[10]
    off = NIGHTLY + "\nrules: {late: {enabled: false}, missed: {severity: info, hold: 1h}}"
    (alert,) = played(runs.values(), off).fired
    assert alert.rule == "missed"
    assert alert.severity.word == "info"
    found_ns = 10 * DAY + 2 * HOUR + 30 * MINUTE + 15 * SECOND
    assert HOUR <= alert.opened_ns - BEGIN - found_ns < HOUR + 10 * MINUTE


def test_a_site_that_works_by_day_is_not_missed_at_night_but_at_noon():
    each = 2 * MINUTE
    runs = [
        run(BEGIN + day * DAY + hour * HOUR + begun, 60.0, job="lot")
        for day in range(12)
        for hour in range(8, 18)
        if (day, hour) not in {(10, 13), (10, 14)}
        for begun in range(0, HOUR, each)
    ]
    fired = [alert for alert in played(runs, to_day=12).fired if alert.rule == "no-jobs"]
    assert [divmod(alert.opened_ns - BEGIN, DAY)[0] for alert in fired] == [10]


def test_a_run_that_takes_three_times_as_long_is_told_while_it_goes():
    runs = nights(30) | {20: run(BEGIN + 20 * DAY + 2 * HOUR, 1800.0)}
    ((rule, opened, resolved),) = told(played(runs.values()))
    assert rule == "duration-anomaly"
    assert "21 02:11:00" <= opened < "21 02:30:00"
    assert resolved == "21 02:30:00"


def test_a_run_of_a_new_job_that_goes_for_hours_and_one_that_is_lost():
    runs = [run(BEGIN + HOUR, 3 * 3600.0, job="sweep"), run(BEGIN + 10 * HOUR, None, job="copy")]
    assert told(played(runs, to_day=1)) == [
        ("running-long", "01 02:05:00", "01 04:00:00"),
        ("silent", "01 10:05:00", "01 10:10:00"),
        ("lost", "01 10:10:00", None),
    ]


def test_failures_of_a_nightly_job_and_of_a_busy_one():
    runs = nights(30)
    runs[10] = run(BEGIN + 10 * DAY + 2 * HOUR, result="failure", error_type="OSError")
    busy = [
        run(BEGIN + 20 * DAY + minute * MINUTE, 20.0, job="etch", result="failure" if 60 <= minute < 90 else "success")
        for minute in range(0, 240, 2)
    ]
    fired = told(played([*runs.values(), *busy]))
    assert ("failed", "11 02:10:00", "12 02:10:00") in fired
    assert ("new-error", "11 02:10:00", "12 02:10:00") in fired
    assert [rule for rule, _, _ in fired if rule == "failure-rate"] == ["failure-rate"]
    assert [rule for rule, _, _ in fired if rule == "success-burn"] == ["success-burn"]


def test_a_job_after_another_is_expected_for_each_lot():
    first = [run(BEGIN + day * DAY, job="etch", lot_ids=(f"L{day}",)) for day in range(5)]
    then = [run(BEGIN + day * DAY + HOUR, job="measure", lot_ids=(f"L{day}",)) for day in range(5) if day != 2]
    text = "expectations: {measure: {job: measure, after: {job: etch, within: 2h}, grace: 30m}}"
    assert [(alert.rule, alert.subject.detail) for alert in played([*first, *then], text, to_day=5).fired] == [
        ("late", "measure 2026-09-03T00:10:00Z L2"),
        ("missed", "measure 2026-09-03T00:10:00Z L2"),
    ]


def test_what_was_before_the_range_tells_what_is_usual_and_fires_nothing():
    runs = nights(30)
    del runs[3]
    runs[20] = run(BEGIN + 20 * DAY + 2 * HOUR, 1800.0)
    assert [rule for rule, _, _ in told(played(runs.values(), NIGHTLY, from_day=19))] == ["duration-anomaly"]


def test_rules_of_which_history_tells_nothing_are_named():
    rules = {rule.name: rule.kind for rule in load(None, 2026).rules}
    assert set(KINDS) > NOT_REHEARSED
    left_out = played([]).left_out
    assert {rules[name] for name in left_out} == NOT_REHEARSED


def test_a_job_of_every_minute_for_a_month_is_played_in_pieces():
    starts = [BEGIN + minute * MINUTE for minute in range(3 * 1440) if minute != 2000]
    text = "expectations: {every: {job: beat, cron: '* * * * *', start_margin: 10s, grace: 10s, early: 5s}}"
    fired = played([run(at, 5.0, job="beat") for at in starts], text, to_day=3).fired
    assert [alert.subject.detail for alert in fired if alert.rule == "missed"] == ["every 2026-09-02T09:20:00Z"]


def test_a_step_is_chosen_by_the_range_and_an_empty_range_is_refused():
    assert step_for(0, DAY) == 10.0
    assert step_for(0, 30 * DAY) == 300.0
    assert 3650 * DAY / SECOND / step_for(0, 3650 * DAY) <= MOST_TICKS
    with pytest.raises(AlertingRejected, match="expected --from before --to"):
        played([], to_day=0)
