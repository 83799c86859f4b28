"""What is usual for one job at one site: how long its runs take, how much memory they use, how they fail.

In: its runs that ended (`Past`, the newest some hundreds, in any order) and now in ns. Out: a `Profile`, which gives a `Band`
of durations for a run that starts at a given time.
Called by: alerting (judges of durations, memory and new errors), query, through `eta` for the time that remains.

Durations are compared by their logarithm, so that "twice as long" is the same step for a job of a second and one of a day. What
is foreseen for a run is the level of late, plus what its recipe (or product, or equipment) does, plus what its hour of the week
does, each drawn towards nothing where few runs speak for it. The band is as wide as such forecasts were wrong before: the tail
of those errors, drawn out to where the job would be told wrongly far less than once a month however often it runs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import NamedTuple, Protocol, Self

from wafermonitor.runs import forecast
from wafermonitor.runs.forecast import Forecast

HISTORY = 500
"""How many runs are worth reading: enough to know the hours of the week of a job that runs every hour."""
LEAST_RUNS = 8
"""Fewer good runs than these say nothing about the next."""
NARROWEST = 0.2
"""A band reaches at least this far (by logarithm: a fifth) from its middle, however equal the runs were."""
_GOOD = "success"
_SHORTEST_S = 1e-3
_ALARMS = 0.15
"""How often a month each side of a band may be left by what is usual."""
_MONTH_NS = 30 * 86_400 * 1_000_000_000
_RAREST, _OFTENEST = 1e-6, 0.01
"""Bounds of how likely a usual run may be to leave a side of its band."""
_MEMORY_CHANCE = 1e-4


class Past(Protocol):
    """A run that ended, as `storage.protocol.PastRun` gives it."""

    @property
    def start_ns(self) -> int: ...  # noqa: D102 - the fields of a record
    @property
    def duration_s(self) -> float | None: ...  # noqa: D102
    @property
    def result(self) -> str | None: ...  # noqa: D102
    @property
    def error_type(self) -> str | None: ...  # noqa: D102
    @property
    def equipment(self) -> str | None: ...  # noqa: D102
    @property
    def recipe(self) -> str | None: ...  # noqa: D102
    @property
    def product(self) -> str | None: ...  # noqa: D102
    @property
    def memory_bytes(self) -> int | None: ...  # noqa: D102


class Band(NamedTuple):
    """Between which durations (s) a run is usual, which is the middle, and from how many runs this is known."""

    low_s: float
    mid_s: float
    high_s: float
    count: int  # type: ignore[assignment]  # nobody counts the fields of a band


class Shift(NamedTuple):
    """The last `runs` runs, from the one that started at `since_ns` on, take `factor` times what was foreseen."""

    since_ns: int
    factor: float
    runs: int


class Profile(NamedTuple):
    """What is usual for one job at one site. `mid_s`: the middle duration of good runs (None: there is none).

    `memory_bytes`: above this a run's memory is unusual (None: too little history). `error_types`: those that were seen.
    `forecast`: how a run's duration is foreseen (None: too little history); `low`, `high`: how far by logarithm a band reaches
    below and above that. `shift`: all of late is slower or faster, though each run alone may be usual.
    """

    runs: int
    mid_s: float | None
    memory_bytes: int | None
    error_types: frozenset[str]
    forecast: Forecast | None = None
    low: float = 0.0
    high: float = 0.0
    shift: Shift | None = None

    def band(
        self, start_ns: int, *, recipe: str | None = None, product: str | None = None, equipment: str | None = None
    ) -> Band | None:
        """The usual durations of a run that starts at `start_ns` (of this recipe …); None: too little history.

        Of a recipe that is not known the band is as wide as those of all recipes together.
        """
        if self.forecast is None:
            return None
        least, most = self.forecast.between(start_ns, {"recipe": recipe, "product": product, "equipment": equipment})
        middle = (least + most) / 2
        return Band(math.exp(least - self.low), math.exp(middle), math.exp(most + self.high), self.runs)

    def dumps(self) -> str:
        """As JSON text, which `loads` reads."""
        fields = self._asdict() | {"error_types": sorted(self.error_types)}
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def loads(cls, text: str) -> Self:
        """What `dumps` wrote; ValueError for any other text."""
        try:
            fields = json.loads(text)
            fields["error_types"] = frozenset(fields["error_types"])
            fields["forecast"] = None if fields["forecast"] is None else Forecast.of(fields["forecast"])
            fields["shift"] = None if fields["shift"] is None else Shift(*fields["shift"])
            return cls(**fields)
        except (KeyError, TypeError, AttributeError) as broken:
            raise ValueError("this is no profile: learn it again from history") from broken


def profile(history: Sequence[Past], now_ns: int) -> Profile:
    """What is usual after `history`: the runs of one job at one site that ended; those after `now_ns` are left out."""
    known = sorted((run for run in history if run.start_ns <= now_ns), key=lambda run: run.start_ns)
    good = [run for run in known if run.result == _GOOD]
    timed = [(run, math.log(max(run.duration_s, _SHORTEST_S))) for run in good if run.duration_s is not None]
    memory = [math.log(run.memory_bytes) for run in good if run.memory_bytes]
    plain = Profile(
        runs=len(timed),
        mid_s=math.exp(median(log for _, log in timed)) if timed else None,
        memory_bytes=_most_memory(memory) if len(memory) >= LEAST_RUNS else None,
        error_types=frozenset(run.error_type for run in known if run.error_type),
    )
    if len(timed) < LEAST_RUNS:
        return plain
    chance = min(max(_ALARMS / _a_month(timed[0][0], timed[-1][0], len(timed)), _RAREST), _OFTENEST)
    began = forecast.regime([log for _, log in timed], [run.start_ns for run, _ in timed], LEAST_RUNS)
    shift = None
    if began and len(timed) - began <= _LATE:
        factor = math.exp(median(log for _, log in timed[began:]) - median(log for _, log in timed[:began]))
        shift = Shift(timed[began][0].start_ns, factor, len(timed) - began)
    timed = timed[began:]
    learned = forecast.learn(
        [log for _, log in timed],
        [run.start_ns for run, _ in timed],
        {name: [getattr(run, name) for run, _ in timed] for name in forecast.TRAITS},
    )
    return plain._replace(
        forecast=learned.forecast,
        low=_reach([-error for error in learned.errors], chance),
        high=_reach(learned.errors, chance),
        shift=shift or _shift(learned, [run.start_ns for run, _ in timed], chance),
    )


def _a_month(first: Past, last: Past, runs: int) -> float:
    """How many of `runs` there are a month."""
    return runs * _MONTH_NS / max(last.start_ns - first.start_ns, 1)


def _most_memory(logs: Sequence[float]) -> int:
    middle = median(logs)
    return round(math.exp(middle + _reach([log - middle for log in logs], _MEMORY_CHANCE)))


def _reach(errors: Sequence[float], chance: float) -> float:
    """What an error exceeds with this chance, or less.

    Where a gap divides the errors, what lies beyond is another way of the job to do its work, if it comes often enough; else it
    is what is to be found, and must not hide the next.
    """
    ordered = sorted(errors)
    count = len(ordered)
    middle = median(ordered)
    wide = _GAP * max(1.4826 * median(abs(error - middle) for error in ordered), NARROWEST / 4)
    gaps = [place + 1 for place in range(count // 2, count - 1) if ordered[place + 1] - ordered[place] > wide]
    core, *others = (ordered[begin:end] for begin, end in pairwise([0, *gaps, count]))
    reach = _tail(core, chance)
    often = max(_OFTEN * count, min(_OFTEN * count + 2, 5))
    scattered = count - len(core) > _SCATTERED * count + 1
    ways = [group for group in others if scattered or len(group) >= often]
    if ways:
        beyond = [error for group in others[: others.index(ways[-1]) + 1] for error in group]
        reach += max(median(beyond), beyond[-1 - count // 100]) - middle
    return max(reach, NARROWEST)


def _tail(ordered: Sequence[float], chance: float) -> float:
    """What is exceeded with this chance, by how fast the tail beyond a high quantile falls (generalised Pareto).

    How heavy the tail is, is drawn towards an exponential one, which falls slower than a normal one, where few runs speak for
    it. A little more where few runs speak at all. Of the largest errors each counts only so much.
    """
    share = 0.1 if len(ordered) >= _MANY else 0.25
    above = max(round(len(ordered) * share), 2)
    threshold = ordered[-above - 1]
    excesses = [error - threshold for error in ordered[-above:]]
    most = _EXCESS * median(excesses)
    excess = sum(min(one, most) for one in excesses) / above
    heavy = _heaviness(excesses) * above / (above + _TAIL_DRAWN)
    rarer = math.log(share / min(chance, share))
    times = math.expm1(heavy * rarer) * (1.0 - heavy) / heavy if abs(heavy) > _EXPONENTIAL else rarer
    return threshold + excess * (1.0 + _UNSURE / math.sqrt(above)) * times


def _heaviness(excesses: Sequence[float]) -> float:
    """The shape of a generalised Pareto tail from these excesses in order, by their weighted moments: 0 is exponential.

    Never less: what seems to end there (hours of the day, before they are known) may go on.
    """
    count = len(excesses)
    mean = sum(excesses) / count
    weighted = sum(one * (count - 0.65 - place) for place, one in enumerate(excesses)) / count**2
    if mean <= 2 * weighted:
        return 0.0
    return min(max(2.0 - mean / (mean - 2.0 * weighted), 0.0), _HEAVIEST)


_MANY = 60
_GAP = 3.5
_OFTEN, _SCATTERED = 0.02, 0.05
"""What stands apart is usual from these shares on: as a group of its own, or all of it together, however scattered."""
_HEAVIEST = 0.3
_TAIL_DRAWN = 15.0
_EXPONENTIAL = 1e-3
_UNSURE = 2.0
_EXCESS = 4.0
_STEP = math.log(2.0)
_LATE = 15


def _shift(learned: forecast.Learned, starts: Sequence[int], chance: float) -> Shift | None:
    """Whether the last runs are slower or faster together: sums of how much likelier a factor of two is than none."""
    late = min(_LATE, len(learned.rest) // 2)
    middle = median(learned.rest[-late - forecast.WIDTHS[1] : -late])
    errors = sorted(learned.errors[:-late])
    outer = len(errors) // 33
    spread = max((errors[-1 - outer] - errors[outer]) / _OUTER, NARROWEST / 2)
    last = [log - middle for log in learned.rest[-late:]]
    enough = _SURER - math.log(chance)
    found = None
    for sign in (1.0, -1.0):
        total, since = 0.0, 0
        for place, error in enumerate(last):
            likelier = _STEP / spread**2 * (sign * error - _STEP / 2)
            total += max(min(likelier, enough / _LEAST_SHIFTED), -enough)
            if total <= 0.0:
                total, since = 0.0, place + 1
        if total >= enough:
            found = Shift(starts[since - late], math.exp(median(last[since:])), late - since)
    return found


_OUTER = 3.76
"""So many standard deviations are between the outer thirty-thirds of a normal distribution."""
_SURER = 2.0
_LEAST_SHIFTED = 3.0
