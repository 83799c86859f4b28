"""What a job seems to do by itself: when it starts and how long it takes, proposed as an expectation that a person accepts.

In: the starts of one job and what is usual for its durations. Out: a `Proposal`, or None where no schedule explains them.
Called by: `wafer alerting learn`.

Several schedules are tried on the history: certain times of certain days of the week, certain minutes of certain hours, at
least once in a period. One is proposed when it would have been right: when nearly every time that it calls for had a run, and
nearly every run is called for.
"""

from __future__ import annotations

import hashlib
import math
import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

from wafermonitor.alerting.errors import ScheduleRejected
from wafermonitor.alerting.expecting import Wish, dumps
from wafermonitor.alerting.schedule import Cron, Every, ticks, zone
from wafermonitor.runs.alerts import Expectation, Origin
from wafermonitor.runs.bands import Profile
from wafermonitor.runs.pairing import Start, first_attempts
from wafermonitor.runs.state import SECOND_NS

LEAST_RUNS = 8
"""Fewer runs say nothing of a schedule."""
RIGHT = 0.9
"""Of the times a schedule calls for, and of the runs, so many must be each other's."""
RIGHT_PERIOD = 0.97
"""Of the periods so many must have had a run."""
MOST_RUNS = 2000
LEAST_TIMES = 3
"""Fewer called-for runs than these are no schedule."""
_MARGIN_S, _GRACE_S = 300.0, 900.0
_NICE_S = (60, 120, 300, 600, 900, 1200, 1800, 2700, 3600, 5400, 7200, 10_800, 14_400, 21_600, 28_800, 43_200, 86_400)
_STEPS_S = tuple(60 * minutes for minutes in (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60))
_HOURS = 24
_WHOLE_WEEKS = 13
_DAY_S = 86_400
_TIMES_A_DAY = 6
_APART_S = 1800
_OFTEN = 0.7
_LEAST_SHORT_S = 60.0
_EARLY_NS = 60 * SECOND_NS
_LONGEST_NAME = 64


class Proposal(NamedTuple):
    """`wish` as it would be followed; `met` of `ticks` called-for runs came in time; `runs` were there; `right` is 0…1."""

    wish: Wish
    met: int
    ticks: int
    runs: int
    right: float

    @property
    def words(self) -> str:
        """The schedule and how it was in the past."""
        schedule = self.wish.schedule
        if isinstance(schedule, Cron):
            when = f"{schedule.expression} ({schedule.zone})"
        else:
            when = f"once in {getattr(schedule, 'period_s', 0) / 60:g} min"
        return f"{when}: {self.met} of {self.ticks} in time, {self.runs} runs"


def propose(starts: Sequence[Start], usual: Profile | None, zones: Iterable[str] = ("UTC",)) -> Proposal | None:
    """The schedule that explains `starts` best, with margins from how late they were and a longest duration from `usual`."""
    known = first_attempts(starts)[-MOST_RUNS:]
    if len(known) < LEAST_RUNS:
        return None
    tried = [one for wish in _candidates(known, zones) if (one := _tried(wish, known)) is not None]
    by_clock = [one for one in tried if isinstance(one.wish.schedule, Cron) and one.right >= RIGHT]
    by_period = [one for one in tried if isinstance(one.wish.schedule, Every) and one.right >= RIGHT_PERIOD]
    best = max(by_clock or by_period, key=lambda one: one.right, default=None)
    return None if best is None else best._replace(wish=_lasting(best.wish, usual, known[-1].start_ns))


def expectation(proposal: Proposal, site: str, job: str, now_ns: int) -> Expectation:
    """The proposal as it is stored: nothing is expected until a person accepts it."""
    name = f"learned.{_named(site)}.{_named(job)}"
    if len(name) > _LONGEST_NAME:
        name = f"{name[: _LONGEST_NAME - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return Expectation(name, site, job, Origin.PROPOSED, dumps(proposal.wish), now_ns, now_ns, now_ns)


def accepted(proposed: Expectation, now_ns: int) -> Expectation:
    """What becomes of a proposal by a person's yes: from now on it is expected."""
    return proposed._replace(origin=Origin.API, since_ns=now_ns, watched_ns=now_ns, changed_ns=now_ns)


def _candidates(starts: Sequence[Start], zones: Iterable[str]) -> Iterator[Wish]:
    gaps = sorted((after.start_ns - before.start_ns) / SECOND_NS for before, after in pairwise(starts))
    longest_s, middle_s = gaps[math.ceil(len(gaps) * 0.98) - 1], gaps[len(gaps) // 2]
    steps = [step_s for step_s in _STEPS_S if 0.7 <= step_s / max(1.0, middle_s) <= 1.4]  # noqa: PLR2004 - near it
    for name in zones:
        locals_ = [datetime.fromtimestamp(start.start_ns / SECOND_NS, zone(name)) for start in starts]
        for expression in dict.fromkeys((*_by_day(locals_), *_by_hour(locals_, steps))):
            yield Wish(Cron(expression, name))
    if longest_s <= 3 * middle_s:
        period_s = _nice_up(longest_s * 1.1)
        yield Wish(Every(period_s), early_s=0.0, start_margin_s=period_s, grace_s=max(60.0, min(_GRACE_S, period_s)))


def _by_day(locals_: Sequence[datetime]) -> Iterator[str]:
    """Some times a day, on some days of the week."""
    clusters = _clusters(sorted(_second_of_day(at) for at in locals_))
    if not 1 <= len(clusters) <= _TIMES_A_DAY:
        return
    times = [int(cluster[len(cluster) // 20] + 15) // 60 for cluster in clusters]
    days = _days(locals_)
    hours = ",".join(str(minute // 60) for minute in sorted(times))
    for minute in sorted({minute % 60 for minute in times}):
        yield f"{minute} {hours} * * {days}"
        yield f"{minute} {hours} * * *"


def _by_hour(locals_: Sequence[datetime], steps: Sequence[int]) -> Iterator[str]:
    """Each of `steps`, s, within some hours of some days."""
    if not steps:
        return
    hours = Counter(at.hour for at in locals_)
    usual = sorted(hours.values())[len(hours) // 2]
    within = sorted(hour for hour, count in hours.items() if count >= usual / 2)
    span = "*" if len(within) == _HOURS else f"{within[0]}-{within[-1]}"
    days = _days(locals_)
    seconds = [at.minute * 60 + at.second for at in locals_]
    for step_s in steps:
        for hour in dict.fromkeys((span, "*")):
            yield f"{_minute(seconds, step_s)} {hour} * * {days}"
            yield f"{_minute(seconds, step_s)} {hour} * * *"


def _minute(seconds: Sequence[int], step_s: int) -> str:
    """The minutes of a schedule that comes each `step_s`: where in the step most starts lie."""
    offsets = sorted(second % step_s for second in seconds)
    turned = max(range(len(offsets)), key=lambda index: (offsets[index] - offsets[index - 1]) % step_s)
    first = int(offsets[turned] + 15) % step_s // 60
    if step_s == 3600:  # noqa: PLR2004 - an hour
        return str(first)
    return f"*/{step_s // 60}" if first == 0 else f"{first}-59/{step_s // 60}"


def _days(locals_: Sequence[datetime]) -> str:
    """The days of the week on most of which it started, as cron has them (Sunday is 0)."""
    first, last = locals_[0].date(), locals_[-1].date()
    if (last - first).days < _WHOLE_WEEKS:
        return "*"  # not every day of the week was seen twice
    came = {at.date() for at in locals_}
    there: dict[int, list[bool]] = defaultdict(list)
    for offset in range((last - first).days + 1):
        day = first + timedelta(days=offset)
        there[day.isoweekday() % 7].append(day in came)
    usual = sorted(day for day, known in there.items() if sum(known) >= _OFTEN * len(known))
    if len(usual) in {0, 7}:
        return "*"
    in_a_row = len(usual) > 1 and usual == list(range(usual[0], usual[-1] + 1))
    return f"{usual[0]}-{usual[-1]}" if in_a_row else ",".join(map(str, usual))


def _clusters(seconds: Sequence[int]) -> list[list[int]]:
    """Times of day that lie together; one that goes over midnight is not found."""
    clusters = [[seconds[0]]]
    for second in seconds[1:]:
        if second - clusters[-1][-1] > _APART_S:
            clusters.append([])
        clusters[-1].append(second)
    return [cluster for cluster in clusters if len(cluster) >= max(2, len(seconds) // 40)]


def _tried(wish: Wish, starts: Sequence[Start]) -> Proposal | None:
    """How `wish` would have been; of times of a clock with a margin that lets the usual lateness pass."""
    schedule = wish.schedule
    assert isinstance(schedule, Cron | Every)
    begins = [start.start_ns for start in starts]
    try:
        nominals = ticks(schedule, begins[0] - _EARLY_NS, begins[-1] + 1)
    except ScheduleRejected:
        return None
    if not LEAST_TIMES <= len(nominals) <= 2 * len(starts):
        return None
    late_s = sorted(_lateness(nominals, begins))
    if not late_s:
        return None
    if isinstance(schedule, Every):
        return Proposal(wish, len(late_s), len(nominals), len(starts), len(late_s) / len(nominals))
    margin_s = _nice_up(max(_MARGIN_S, 1.5 * late_s[math.ceil(len(late_s) * 0.98) - 1]))
    apart_s = (nominals[-1] - nominals[0]) / SECOND_NS / max(1, len(nominals) - 1)
    if margin_s > apart_s:
        margin_s = apart_s / 2
    met = sum(late <= margin_s for late in late_s)
    fitted = wish._replace(start_margin_s=margin_s, grace_s=max(margin_s, min(_GRACE_S, apart_s / 2)))
    return Proposal(fitted, met, len(nominals), len(starts), min(met / len(nominals), met / len(starts)))


def _lateness(nominals: Sequence[int], begins: Sequence[int]) -> Iterator[float]:
    """Of each nominal time the s until the first start that is its own, where there is one."""
    for nominal_ns, next_ns in pairwise((*nominals, nominals[-1] + 10**18)):
        place = bisect_left(begins, nominal_ns - _EARLY_NS)
        if place < len(begins) and begins[place] < next_ns - _EARLY_NS:
            yield max(0.0, (begins[place] - nominal_ns) / SECOND_NS)


def _lasting(wish: Wish, usual: Profile | None, start_ns: int) -> Wish:
    """With bounds of the duration, well outside what is usual."""
    band = None if usual is None else usual.band(start_ns)
    if band is None:
        return wish
    shortest_s = band.low_s / 2
    return wish._replace(
        max_duration_s=_nice_up(max(1.5 * band.high_s, band.high_s + 60)),
        min_duration_s=math.floor(shortest_s / 60) * 60.0 if shortest_s >= _LEAST_SHORT_S else None,
    )


def _second_of_day(at: datetime) -> int:
    return at.hour * 3600 + at.minute * 60 + at.second


def _nice_up(length_s: float) -> float:
    """The next length that a person would have written."""
    return float(next((nice for nice in _NICE_S if nice >= length_s), math.ceil(length_s / _DAY_S) * _DAY_S))


def _named(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text)
