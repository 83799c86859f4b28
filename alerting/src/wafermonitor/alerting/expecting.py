"""What an expectation wants: its schedule, its calendar and its limits, and how they stand in `Expectation.spec`.

In: JSON text of a spec. Out: a frozen `Wish`, and back. Called by: declared and learning (write specs), evaluator (reads them).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, datetime
from functools import lru_cache
from typing import Any, NamedTuple

from wafermonitor.alerting.errors import ScheduleRejected
from wafermonitor.alerting.schedule import ALWAYS, Calendar, Closed, Cron, Every, check, zone


class After(NamedTuple):
    """Within `within_s` after each run of `job` at the same site started or ended well; `same_lot`: one run for each lot.

    `on` is `start` or `end`. A run that ended badly calls for nothing.
    """

    job: str
    within_s: float
    same_lot: bool = True
    on: str = "end"


class Wish(NamedTuple):
    """An expectation as it is followed. Limits are seconds; None: no such limit.

    A start up to `early_s` before the nominal time still counts for it. After `start_margin_s` it is late (for `After`, which
    has no nominal time, after `within_s`), `grace_s` later it is missed. `max_duration_s` and `min_duration_s` bound a run that
    came, `silence_s` is how long one may give no sign.
    """

    schedule: Cron | Every | After
    calendar: Calendar = ALWAYS
    early_s: float = 60.0
    start_margin_s: float = 300.0
    grace_s: float = 900.0
    max_duration_s: float | None = None
    min_duration_s: float | None = None
    silence_s: float | None = None
    owner: str | None = None
    runbook: str | None = None


LONGEST_S = 366 * 86_400.0
"""Longest period or limit, s. Times of longer ones do not fit the store, and would stop every other expectation."""
_LATEST_NS = 2**62
_WEEKDAYS = frozenset(range(7))
_SECONDS = ("early_s", "start_margin_s", "grace_s", "max_duration_s", "min_duration_s", "silence_s")
_TEXTS = ("owner", "runbook")
_KINDS = ("cron", "every_s", "after")
_FIELDS = frozenset({*_SECONDS, *_TEXTS, *_KINDS, "zone", "since_ns", "within_s", "same_lot", "on", "calendar"})
_DEFAULTS = Wish(Every(1))._asdict()


def dumps(wish: Wish) -> str:
    """The spec of `wish`: the same text for the same wish, what is default left out. ScheduleRejected when it is none."""
    _check(wish)
    spec: dict[str, Any] = _schedule_spec(wish.schedule)
    spec |= {name: _number(getattr(wish, name)) for name in _SECONDS if getattr(wish, name) != _DEFAULTS[name]}
    spec |= {name: getattr(wish, name) for name in _TEXTS if getattr(wish, name) is not None}
    if wish.calendar != ALWAYS:
        spec["calendar"] = _calendar_spec(wish.calendar)
    return json.dumps(spec, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


@lru_cache(maxsize=65_536)
def loads(text: str) -> Wish:
    """The wish of a spec; ScheduleRejected names the field that is wrong and what is expected."""
    try:
        spec = json.loads(text)
    except ValueError as error:
        raise ScheduleRejected(f"a spec that is no JSON: {error}") from None
    if not isinstance(spec, dict):
        raise ScheduleRejected("a spec must be a JSON object")
    if unknown := sorted(set(spec) - _FIELDS):
        raise ScheduleRejected(f"{unknown[0]!r} is no field of a spec; there are {', '.join(sorted(_FIELDS))}")
    try:
        given: dict[str, Any] = {name: float(spec[name]) for name in _SECONDS if spec.get(name) is not None}
        given |= {name: str(spec[name]) for name in _TEXTS if spec.get(name) is not None}
        wish = Wish(_schedule(spec), _calendar(spec.get("calendar")), **given)
    except (TypeError, ValueError, KeyError) as error:
        raise ScheduleRejected(f"a spec that cannot be read: {error!r}") from None
    _check(wish)
    return wish


def _schedule(spec: Mapping[str, Any]) -> Cron | Every | After:
    kinds = [kind for kind in _KINDS if kind in spec]
    if len(kinds) != 1:
        raise ScheduleRejected(f"a spec needs one of {', '.join(_KINDS)}, and has {', '.join(kinds) or 'none'}")
    if "cron" in spec:
        return Cron(str(spec["cron"]), str(spec.get("zone", "UTC")))
    if "every_s" in spec:
        return Every(float(spec["every_s"]), int(spec.get("since_ns", 0)))
    return After(str(spec["after"]), float(spec["within_s"]), bool(spec.get("same_lot", True)), str(spec.get("on", "end")))


def _schedule_spec(schedule: Cron | Every | After) -> dict[str, Any]:
    if isinstance(schedule, Cron):
        return {"cron": schedule.expression, "zone": schedule.zone}
    if isinstance(schedule, Every):
        return {"every_s": _number(schedule.period_s)} | ({"since_ns": schedule.since_ns} if schedule.since_ns else {})
    return {"after": schedule.job, "within_s": _number(schedule.within_s), "same_lot": schedule.same_lot, "on": schedule.on}


def _number(seconds: float | None) -> float | None:
    """60.0 as 60, so that a number is written alike whoever gave it."""
    return int(seconds) if seconds is not None and float(seconds).is_integer() else seconds


def _calendar(spec: Mapping[str, Any] | None) -> Calendar:
    if spec is None:
        return ALWAYS
    if unknown := sorted(set(spec) - set(Calendar._fields)):
        raise ScheduleRejected(f"{unknown[0]!r} is no field of a calendar; there are {', '.join(Calendar._fields)}")
    return Calendar(
        str(spec.get("zone", "UTC")),
        frozenset(int(day) for day in spec.get("weekdays", ())),
        frozenset(date.fromisoformat(day) for day in spec.get("holidays", ())),
        tuple(
            Closed(datetime.fromisoformat(start), datetime.fromisoformat(end), why)
            for start, end, why in spec.get("closed", ())
        ),
    )


def _calendar_spec(calendar: Calendar) -> dict[str, Any]:
    spec: dict[str, Any] = {"zone": calendar.zone}
    if calendar.weekdays:
        spec["weekdays"] = sorted(calendar.weekdays)
    if calendar.holidays:
        spec["holidays"] = [day.isoformat() for day in sorted(calendar.holidays)]
    if calendar.closed:
        spec["closed"] = [[one.start.isoformat(), one.end.isoformat(), one.why] for one in calendar.closed]
    return spec


def _check(wish: Wish) -> None:
    _check_schedule(wish.schedule)
    _check_calendar(wish.calendar)
    for name in _SECONDS:
        value = getattr(wish, name)
        if value is not None and not 0 <= value <= LONGEST_S:
            raise ScheduleRejected(f"{name} = {value:g}: expected 0 s to a year")
    if wish.min_duration_s is not None and wish.max_duration_s is not None and wish.min_duration_s > wish.max_duration_s:
        raise ScheduleRejected(f"min_duration_s = {wish.min_duration_s:g}: expected less than max_duration_s")
    for name in _TEXTS:
        _check_text(name, getattr(wish, name) or "")


def _check_text(name: str, text: str) -> None:
    """What a store cannot keep would stop the tick of every other expectation."""
    if any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in text):
        raise ScheduleRejected(f"{name}: expected text that is Unicode, without NUL")


def _check_schedule(schedule: Cron | Every | After) -> None:
    if isinstance(schedule, Cron):
        check(schedule)
    elif isinstance(schedule, Every):
        if not schedule.period_s <= LONGEST_S:
            raise ScheduleRejected(f"a period of {schedule.period_s:g} s: expected a year at most")
        if abs(schedule.since_ns) > _LATEST_NS:
            raise ScheduleRejected(f"since_ns = {schedule.since_ns:g}: expected ns since 1970")
        check(schedule)
    elif not schedule.job:
        raise ScheduleRejected("after: expected the name of a job")
    elif not 0 < schedule.within_s <= LONGEST_S:
        raise ScheduleRejected(f"within_s = {schedule.within_s:g}: expected more than 0 s, and a year at most")
    elif schedule.on not in {"start", "end"}:
        raise ScheduleRejected(f"on = {schedule.on!r}: expected start or end")
    else:
        _check_text("after", schedule.job)


def _check_calendar(calendar: Calendar) -> None:
    zone(calendar.zone)
    if not calendar.weekdays <= _WEEKDAYS:
        raise ScheduleRejected(f"weekdays = {sorted(calendar.weekdays)}: expected 0 (Monday) to 6")
    for one in calendar.closed:
        _check_text("closed", one.why)
        if one.start.tzinfo is not None or one.end.tzinfo is not None:
            raise ScheduleRejected(f"closed from {one.start.isoformat()}: expected local times with no offset")
        if one.end <= one.start:
            raise ScheduleRejected(f"closed from {one.start.isoformat()}: expected an end after the start")
