"""When an expectation wants a run: cron expressions and fixed periods, in a zone, less what a calendar leaves out.

In: a schedule, a calendar, a range of time in ns. Out: nominal times in ns, ascending.
Called by: evaluator, learning, simulator.

Cron is Debian's (cronsim): at the change of clocks, a job of a fixed hour runs once, right after the gap or the first time in
the overlap; one that repeats (`*/15`) follows real time.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from itertools import takewhile
from typing import NamedTuple
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from wafermonitor.alerting.errors import ScheduleRejected
from wafermonitor.runs.state import SECOND_NS

MAX_TICKS = 100_000
"""Most nominal times of one answer: a year of a job that runs every 5 minutes."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Cron(NamedTuple):
    """Five fields (or six, seconds first) in a time zone of the IANA database."""

    expression: str
    zone: str = "UTC"


class Every(NamedTuple):
    """Each `period_s` seconds, counted from `since_ns`."""

    period_s: float
    since_ns: int = 0


Schedule = Cron | Every


class Closed(NamedTuple):
    """From `start` (included) to `end` (excluded), local to the calendar's zone: no run is expected to start."""

    start: datetime
    end: datetime
    why: str = ""


class Calendar(NamedTuple):
    """What a schedule leaves out: days of the week (Monday is 0), whole days, and stretches such as maintenance windows."""

    zone: str = "UTC"
    weekdays: frozenset[int] = frozenset()
    holidays: frozenset[date] = frozenset()
    closed: tuple[Closed, ...] = ()

    def leaves_out(self, at_ns: int) -> bool:
        """Whether a run due at `at_ns` is not expected after all."""
        local = _time(at_ns, zone(self.zone)).replace(tzinfo=None)
        if local.weekday() in self.weekdays or local.date() in self.holidays:
            return True
        return any(stretch.start <= local < stretch.end for stretch in self.closed)


ALWAYS = Calendar()


def ticks(schedule: Schedule, from_ns: int, to_ns: int, calendar: Calendar = ALWAYS) -> list[int]:
    """Nominal times in [from_ns, to_ns), ns; ScheduleRejected when there are more than MAX_TICKS."""
    times = _every(schedule, from_ns, to_ns) if isinstance(schedule, Every) else _cron(schedule, from_ns, to_ns)
    return times if calendar == ALWAYS else [at_ns for at_ns in times if not calendar.leaves_out(at_ns)]


def check(schedule: Schedule) -> None:
    """ScheduleRejected, naming what is wrong and what is expected, when `schedule` can never be followed."""
    if isinstance(schedule, Every):
        if schedule.period_s < 1:
            raise ScheduleRejected(f"a period of {schedule.period_s} s: expected one second or more")
        return
    simulated = _simulated(schedule, datetime(2026, 1, 1, tzinfo=UTC))
    if next(simulated, None) is None:
        raise ScheduleRejected(f"cron {schedule.expression!r} never comes: expected a time such as '0 2 * * *'")


@lru_cache(maxsize=256)
def zone(name: str) -> tzinfo:
    """A zone of the IANA database; ScheduleRejected names the one that is none."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ScheduleRejected(f"{name!r} is no time zone: expected a name such as Europe/Berlin or UTC") from error


def _every(schedule: Every, from_ns: int, to_ns: int) -> list[int]:
    period_ns = round(schedule.period_s * SECOND_NS)
    first = -((schedule.since_ns - from_ns) // period_ns)
    count = max(0, -((first * period_ns + schedule.since_ns - to_ns) // period_ns))
    _bounded(count)
    return [schedule.since_ns + (first + index) * period_ns for index in range(count)]


def _cron(schedule: Cron, from_ns: int, to_ns: int) -> list[int]:
    begin = _time(from_ns, zone(schedule.zone)) - timedelta(seconds=1)
    times = []
    for at in takewhile(lambda at_ns: at_ns < to_ns, map(_ns, _simulated(schedule, begin))):
        if at >= from_ns:
            times.append(at)
            _bounded(len(times))
    return times


def _simulated(schedule: Cron, begin: datetime) -> CronSim:
    try:
        return CronSim(schedule.expression, begin.astimezone(zone(schedule.zone)))
    except CronSimError as error:
        raise ScheduleRejected(
            f"cron {schedule.expression!r}: {error}; expected minute, hour, day of month, month, day of week"
        ) from error


def _bounded(count: int) -> None:
    if count > MAX_TICKS:
        raise ScheduleRejected(f"more than {MAX_TICKS} runs expected in one range: ask for a shorter one")


def _time(at_ns: int, where: tzinfo) -> datetime:
    return (_EPOCH + timedelta(microseconds=at_ns // 1000)).astimezone(where)


def _ns(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1) * 1000
