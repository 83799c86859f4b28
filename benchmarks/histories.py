"""Seeded histories of jobs whose truth is known: what bands and ETA are measured on.

In: a kind of job, how often it runs, a seed. Out: its runs in order of start (`bands.Past`). Called by: `e4_bands`,
tests of `runs.bands` and `runs.eta`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

from wafermonitor.runs.eta import Mark, Way

SECOND_NS = 1_000_000_000
HOUR_S, DAY_S = 3600, 86_400
BEGIN_NS = 1_767_225_600 * SECOND_NS
"""2026-01-01 00:00 UTC."""


class Simulated(NamedTuple):
    """One run that ended."""

    start_ns: int
    duration_s: float | None
    result: str | None = "success"
    error_type: str | None = None
    equipment: str | None = None
    recipe: str | None = None
    product: str | None = None
    memory_bytes: int | None = None


class Moment(NamedTuple):
    """What the next duration may depend on."""

    chance: random.Random
    day: float
    hour: float
    number: int


Law = Callable[[Moment], tuple[float, str | None]]
"""A moment → (factor of the job's usual duration, recipe)."""


def _steady(moment: Moment) -> tuple[float, str | None]:
    return math.exp(moment.chance.gauss(0, 0.06)), None


def _equal(moment: Moment) -> tuple[float, str | None]:
    return 1.0 + moment.chance.gauss(0, 0.001), None


def _noisy(moment: Moment) -> tuple[float, str | None]:
    return math.exp(moment.chance.gauss(0, 0.25)), None


def _tailed(moment: Moment) -> tuple[float, str | None]:
    """Most runs are alike, some wait for something."""
    wait = moment.chance.expovariate(5.0) if moment.chance.random() < 0.3 else 0.0
    return math.exp(moment.chance.gauss(0, 0.05)) * (1.0 + wait), None


def _heavy(moment: Moment) -> tuple[float, str | None]:
    """Student's t with 5 degrees of freedom, by logarithm."""
    chance = moment.chance
    return math.exp(0.06 * chance.gauss(0, 1) / math.sqrt(chance.gammavariate(2.5, 2.0) / 5.0)), None


def _seasonal(moment: Moment) -> tuple[float, str | None]:
    """Half as long again by day, less at weekends."""
    by_day = 0.4 * math.sin(2 * math.pi * (moment.hour - 9) / 24)
    weekend = -0.3 if int(moment.day + 3) % 7 >= 5 else 0.0
    return math.exp(by_day + weekend + moment.chance.gauss(0, 0.07)), None


def _two_ways(moment: Moment) -> tuple[float, str | None]:
    """Three of ten runs do three times the work, and nothing says which."""
    return (3.0 if moment.chance.random() < 0.3 else 1.0) * math.exp(moment.chance.gauss(0, 0.06)), None


def _rare_way(moment: Moment) -> tuple[float, str | None]:
    return (4.0 if moment.chance.random() < 0.05 else 1.0) * math.exp(moment.chance.gauss(0, 0.06)), None


def _by_recipe(moment: Moment) -> tuple[float, str | None]:
    recipe = moment.chance.choice(("A", "B", "B", "C", "C", "C", "D"))
    return {"A": 1.0, "B": 1.6, "C": 2.5, "D": 5.0}[recipe] * math.exp(moment.chance.gauss(0, 0.07)), recipe


def _drifting(moment: Moment) -> tuple[float, str | None]:
    """Half a percent slower each day."""
    return math.exp(0.005 * moment.day + moment.chance.gauss(0, 0.08)), None


def _stepping(moment: Moment) -> tuple[float, str | None]:
    """A new version every forty days changes the duration by a third, up and down."""
    return (1.35 if int(moment.day / 40) % 2 else 1.0) * math.exp(moment.chance.gauss(0, 0.07)), None


def _wandering() -> Law:
    """What was slow a moment ago still is: a first-order memory of 0.9."""
    state = [0.0]

    def law(moment: Moment) -> tuple[float, str | None]:
        state[0] = 0.9 * state[0] + moment.chance.gauss(0, 0.05)
        return math.exp(state[0] + moment.chance.gauss(0, 0.04)), None

    return law


KINDS: dict[str, Callable[[], Law]] = {
    "steady": lambda: _steady,
    "equal": lambda: _equal,
    "noisy": lambda: _noisy,
    "long tail": lambda: _tailed,
    "heavy tails": lambda: _heavy,
    "seasonal": lambda: _seasonal,
    "two ways": lambda: _two_ways,
    "rare way": lambda: _rare_way,
    "by recipe": lambda: _by_recipe,
    "drifting": lambda: _drifting,
    "stepping": lambda: _stepping,
    "wandering": _wandering,
}
"""Kinds of jobs, by name."""
EVERY = {"5 min": 300, "30 min": 1800, "hour": HOUR_S, "4 h": 4 * HOUR_S, "day": DAY_S}
"""How often a job may run, s."""


class Job(NamedTuple):
    """A simulated job."""

    kind: str
    every_s: int
    seed: int

    def runs(self, count: int) -> Iterator[Simulated]:
        """Its first `count` runs; one of fifty fails, sooner."""
        chance = random.Random(f"{self.kind} {self.every_s} {self.seed}")
        law = KINDS[self.kind]()
        usual_s = self.every_s * math.exp(chance.uniform(-4.0, -0.5))
        for number in range(count):
            start_s = number * self.every_s + chance.uniform(0, 0.02 * self.every_s)
            factor, recipe = law(Moment(chance, start_s / DAY_S, start_s / HOUR_S % 24, number))
            failed = chance.random() < 0.02
            duration_s = usual_s * factor * (chance.random() if failed else 1.0)
            result, error = ("failure", "ValueError") if failed else ("success", None)
            yield Simulated(BEGIN_NS + round(start_s * SECOND_NS), duration_s, result, error, recipe=recipe)


def way_of(run: Simulated, steps: int = 20) -> Way:
    """How far `run` was when: slower towards its end, by how much differs from run to run."""
    duration_s = run.duration_s or 0.0
    power = 1.8 * math.exp(random.Random(run.start_ns).gauss(0, 0.08))
    marks = (Mark(step / steps, duration_s * (step / steps) ** power) for step in range(1, steps + 1))
    return Way(tuple(marks), duration_s)
