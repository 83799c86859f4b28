"""One job over time: what is usual, how long each run took, how many ended well, why others did not, and by what they differ.

In: runs of one job as the read API gives them, a stretch of time, the viewer's zone. Out: places in per cent and words for the
page. Called by: pages.job.

"Usual" is between what nine of ten good runs take at least and at most; a run far outside (one and a half times the middle
half, by logarithm, beyond it) is an outlier. Fewer than `LEAST` good runs say neither. Beside that stands the band by which
runs are judged, as the API learned it: it is wider, so that it seldom cries wolf.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from statistics import median, quantiles
from typing import NamedTuple

from wafermonitor.query.models import BandModel, RunModel
from wafermonitor.ui.clock import DAY_S, HOUR_S, MINUTE_S, duration, epoch_ms
from wafermonitor.ui.states import BAD_RESULTS, look

LEAST = 8
DOTS_MOST = 600
_FENCE = 1.5
_NARROWEST = 0.1
"""By logarithm: runs within 10 % of the middle half are no outliers, however alike the others were."""
_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400)
_TICKS = 4
_GROUPS_MOST = 30
_REASONS_MOST = 8


class Usual(NamedTuple):
    """Durations of good runs, s: nine of ten take from `low_s` to `high_s`; beyond `least_s` and `most_s` is an outlier."""

    low_s: float
    mid_s: float
    high_s: float
    least_s: float
    most_s: float


class Dot(NamedTuple):
    """One run in the chart, in per cent of its width and height. `beyond`: it took longer than the chart is high."""

    run: str
    left: float
    bottom: float
    look: str
    outlier: bool
    beyond: bool
    words: str
    start: str


class Tick(NamedTuple):
    """A mark of an axis, in per cent from its start."""

    at: float
    words: str


class Chart(NamedTuple):
    """Durations over time. `thinned`: how many good, usual runs were left out so that it stays quick.

    `area` and `middle` draw what is usual, `limit` the band by which runs are judged, as far as it is on the field: `x,y` pairs
    in per cent from the upper left corner, empty where they are not known.
    """

    dots: list[Dot]
    times: list[Tick]
    durations: list[Tick]
    area: str
    middle: str
    limit: str
    thinned: int


class Day(NamedTuple):
    """How the runs that started on one day ended. `good` and `bad` are heights in per cent of the fullest day's."""

    date: str
    ended: int
    failed: int
    good: float
    bad: float


class Reason(NamedTuple):
    """Why runs failed: an error type, or the result where there is none. `last` is the newest of them."""

    words: str
    runs: int
    share: float
    last: RunModel


class Group(NamedTuple):
    """The runs of one equipment, recipe or product. `against` is its middle duration as a part of all the runs'."""

    name: str
    runs: int
    failed: int
    mid_s: float | None
    against: float | None
    last: RunModel


def ended(runs: Sequence[RunModel]) -> list[RunModel]:
    """Those that have ended and said how long they took."""
    return [run for run in runs if run.state == "ended" and run.duration_s is not None and run.start is not None]


def failed(run: RunModel) -> bool:
    """It ended badly."""
    return run.result in BAD_RESULTS


def usual(runs: Sequence[RunModel]) -> Usual | None:
    """What is usual; None where there are too few good runs."""
    took_s = sorted(run.duration_s for run in ended(runs) if run.duration_s and run.result in {"success", None})
    if len(took_s) < LEAST:
        return None
    twentieths = quantiles(took_s, n=20, method="inclusive")
    first, third = twentieths[4], twentieths[14]
    reach = max(_FENCE * math.log(third / first), _NARROWEST)
    return Usual(twentieths[0], median(took_s), twentieths[18], first / math.exp(reach), third * math.exp(reach))


def chart(runs: Sequence[RunModel], begin_ms: float, end_ms: float, zone: tzinfo, judged: Sequence[BandModel] = ()) -> Chart:
    """The durations of `runs` between two instants, with the band by which they are `judged` where it is known.

    What fails or is unusual is never thinned out.
    """
    found, norm = ended(runs), usual(runs)
    limits = [_Band(epoch_ms(band.start) or 0.0, band.low_s, band.mid_s, band.high_s) for band in judged]
    fences = [_Band(begin_ms, norm.least_s, norm.mid_s, norm.most_s)] if norm else []
    shade = [_Band(begin_ms, norm.low_s, norm.mid_s, norm.high_s)] if norm else []
    longest_s = max((run.duration_s or 0.0 for run in found), default=1.0)
    top_s = max((min(longest_s, 3 * norm.high_s) if norm else longest_s) * 1.08, 1e-6)
    dots = [_dot(run, (fences, limits), begin_ms, end_ms, top_s) for run in found]
    marked = [dot for dot in dots if dot.outlier or dot.look != "success"]
    plain = [dot for dot in dots if not (dot.outlier or dot.look != "success")]
    every = max(math.ceil(len(plain) / max(DOTS_MOST - len(marked), 1)), 1)
    kept = plain[::every]
    thinned = len(plain) - len(kept)
    times = _days(begin_ms, end_ms, zone)
    area, middle = _band_lines(shade, begin_ms, end_ms, top_s)
    limit = _band_lines(limits, begin_ms, end_ms, top_s)[0]
    return Chart([*kept, *marked[:DOTS_MOST]], times, _durations(top_s), area, middle, limit, thinned)


def by_day(runs: Sequence[RunModel], begin_ms: float, end_ms: float, zone: tzinfo) -> list[Day]:
    """One entry for each day of the viewer's calendar, empty ones too."""
    counts: dict[str, Counter[bool]] = defaultdict(Counter)
    for run in ended(runs):
        counts[_date(epoch_ms(run.start) or 0.0, zone)][failed(run)] += 1
    most = max((sum(count.values()) for count in counts.values()), default=1)
    first, last = (datetime.fromtimestamp(ms / 1_000, zone).date() for ms in (begin_ms, end_ms))
    days = []
    while first <= last:
        count = counts[first.isoformat()]
        good, bad = count[False], count[True]
        days.append(Day(first.isoformat(), good + bad, bad, 100 * good / most, 100 * bad / most))
        first += timedelta(days=1)
    return days


def reasons(runs: Sequence[RunModel]) -> list[Reason]:
    """Why runs failed, the most frequent first."""
    bad = [run for run in ended(runs) if failed(run)]
    by_words: dict[str, list[RunModel]] = defaultdict(list)
    for run in bad:
        by_words[run.error_type or f"{run.result}, no reason given"].append(run)
    found = [Reason(words, len(some), len(some) / len(bad), max(some, key=_start)) for words, some in by_words.items()]
    return sorted(found, key=lambda reason: (-reason.runs, reason.words))[:_REASONS_MOST]


def groups(runs: Sequence[RunModel], by: str) -> list[Group]:
    """The runs by `equipment`, `recipe` or `product`, the most runs first; those without it come as the empty name."""
    norm = usual(runs)
    by_name: dict[str, list[RunModel]] = defaultdict(list)
    for run in ended(runs):
        by_name[getattr(run, by) or ""].append(run)
    found = []
    for name, some in by_name.items():
        took_s = [run.duration_s for run in some if run.duration_s and not failed(run)]
        mid_s = median(took_s) if took_s else None
        against = mid_s / norm.mid_s if norm and mid_s is not None else None
        found.append(Group(name, len(some), sum(map(failed, some)), mid_s, against, max(some, key=_start)))
    return sorted(found, key=lambda group: (-group.runs, group.name))[:_GROUPS_MOST]


class _Band(NamedTuple):
    start_ms: float
    low_s: float
    mid_s: float
    high_s: float


def _band_lines(bands: Sequence[_Band], begin_ms: float, end_ms: float, top_s: float) -> tuple[str, str]:
    """The band as a polygon and its middle as a line, in steps, on a field of 100 by 100."""
    upper, lower, middle = [], [], []
    for number, band in enumerate(bands):
        until_ms = bands[number + 1].start_ms if number + 1 < len(bands) else end_ms
        sides = [min(max(100 * (ms - begin_ms) / max(end_ms - begin_ms, 1.0), 0.0), 100.0) for ms in (band.start_ms, until_ms)]
        low, mid, high = (100 - min(100 * value / top_s, 110.0) for value in (band.low_s, band.mid_s, band.high_s))
        upper += [f"{side:.2f},{high:.2f}" for side in sides]
        lower += [f"{side:.2f},{low:.2f}" for side in sides]
        middle += [f"{side:.2f},{mid:.2f}" for side in sides]
    return " ".join([*upper, *reversed(lower)]), " ".join(middle)


def _outside(took_s: float, start_ms: float, limits: Sequence[_Band]) -> bool:
    """Whether a run that started then took longer or shorter than the limits in force."""
    if not limits:
        return False
    place = max(bisect_right(limits, start_ms, key=lambda band: band.start_ms) - 1, 0)
    return not limits[place].low_s <= took_s <= limits[place].high_s


def _dot(run: RunModel, bands: tuple[Sequence[_Band], Sequence[_Band]], begin_ms: float, end_ms: float, top_s: float) -> Dot:
    took_s = run.duration_s or 0.0
    shown = look(run)
    outlier = run.result in {"success", None} and any(_outside(took_s, _start(run), limits) for limits in bands)
    left = 100 * (_start(run) - begin_ms) / max(end_ms - begin_ms, 1.0)
    about = [shown.word, duration(took_s), run.error_type, *run.lot_ids[:1], run.equipment]
    words = " · ".join(part for part in about if part)
    left = min(max(left, 0.0), 100.0)
    return Dot(run.run, left, min(100 * took_s / top_s, 100.0), shown.key, outlier, took_s > top_s, words, run.start or "")


def _start(run: RunModel) -> float:
    return epoch_ms(run.start) or 0.0


def _date(ms: float, zone: tzinfo) -> str:
    return datetime.fromtimestamp(ms / 1_000, zone).date().isoformat()


def _days(begin_ms: float, end_ms: float, zone: tzinfo) -> list[Tick]:
    """Midnights of the viewer, about six of them."""
    begin, end = (datetime.fromtimestamp(ms / 1_000, zone) for ms in (begin_ms, end_ms))
    step = max(round((end - begin).days / 6), 1)
    ticks = []
    day = begin.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    while day < end:
        at = 100 * (day.astimezone(UTC).timestamp() * 1_000 - begin_ms) / (end_ms - begin_ms)
        ticks.append(Tick(at, f"{day.day} {day:%b}"))
        day += timedelta(days=step)
    return ticks


def _durations(top_s: float) -> list[Tick]:
    step_s = next((step for step in _STEPS_S if top_s / step <= _TICKS), None)
    if step_s is None:
        step_s = DAY_S * math.ceil(top_s / DAY_S / _TICKS)
    if top_s < 1:
        return [Tick(50.0, duration(top_s / 2))]
    return [Tick(100 * number * step_s / top_s, _round(number * step_s)) for number in range(1, int(top_s / step_s) + 1)]


def _round(seconds: int) -> str:
    """A round duration without the zeros: `5m`, `2h`."""
    for unit_s, word in ((DAY_S, "d"), (HOUR_S, "h"), (MINUTE_S, "m")):
        if seconds % unit_s == 0:
            return f"{seconds // unit_s}{word}"
    return duration(seconds)
