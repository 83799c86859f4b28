"""The end of a run is foreseen with an interval that holds what it says, or not at all."""

from __future__ import annotations

import math
import random

import pytest

from benchmarks.histories import BEGIN_NS, HOUR_S, KINDS, SECOND_NS, Job, Simulated, way_of
from wafermonitor.runs.bands import LEAST_RUNS, profile
from wafermonitor.runs.eta import Eta, Mark, Unknown, Way, eta

HOUR_NS = HOUR_S * SECOND_NS
START = BEGIN_NS + 1000 * HOUR_NS


def learned(durations, **given):
    """What is usual after good runs, one an hour, so long (s)."""
    return profile([Simulated(BEGIN_NS + place * HOUR_NS, one, **given) for place, one in enumerate(durations)], START)


def spread(count, middle=100.0, sigma=0.1):
    """Durations around a middle."""
    chance = random.Random(3)
    return [middle * math.exp(chance.gauss(0, sigma)) for _ in range(count)]


def after(seconds):
    """So long after the start."""
    return START + round(seconds * SECOND_NS)


def test_an_end_is_foreseen_from_the_runs_before():
    found = eta(learned(spread(200)), START, START)
    assert isinstance(found, Eta)
    assert after(80) < found.low_ns < after(95) < found.mid_ns < after(105) < found.high_ns < after(125)
    assert (found.basis, found.count) == ("history", 200)


def test_the_longer_it_takes_the_later_it_ends_and_never_before_now():
    usual = learned(spread(200))
    ends = [eta(usual, START, after(elapsed)) for elapsed in (0, 90, 105, 115)]
    assert all(isinstance(end, Eta) for end in ends)
    assert sorted(end.mid_ns for end in ends) == [end.mid_ns for end in ends]
    assert all(after(elapsed) <= end.low_ns for elapsed, end in zip((0, 90, 105, 115), ends, strict=True))


def test_of_two_ways_the_longer_is_left_when_the_shorter_is_over():
    chance = random.Random(1)
    usual = learned([duration * chance.choice((1, 1, 1, 5)) for duration in spread(200, sigma=0.03)])
    found = eta(usual, START, after(150))
    assert isinstance(found, Eta)
    assert after(450) < found.low_ns < found.high_ns < after(550)


@pytest.mark.parametrize(
    ("usual", "elapsed", "why"),
    [
        (None, 5, "too little history: 0 good runs of this job, 8 are needed"),
        (learned([1.0] * (LEAST_RUNS - 1)), 5, "too little history: 7 good runs of this job, 8 are needed"),
        (learned(spread(50)), 500, "it has taken longer than nearly all of the 50 good runs before it"),
        (learned(spread(50)), -5, "it starts in the future: its clock is ahead"),
    ],
)
def test_it_says_why_it_does_not_know(usual, elapsed, why):
    assert eta(usual, START, after(elapsed)) == Unknown(why)


def test_of_an_unheard_recipe_it_does_not_know():
    history = [
        Simulated(BEGIN_NS + place * HOUR_NS, duration * (1 + 3 * (place % 2)), recipe="AB"[place % 2])
        for place, duration in enumerate(spread(100))
    ]
    usual = profile(history, START)
    a, b = eta(usual, START, START, recipe="A"), eta(usual, START, START, recipe="B")
    assert isinstance(a, Eta)
    assert isinstance(b, Eta)
    assert a.high_ns < after(150) < after(300) < b.low_ns
    why = "too few good runs of recipe C, and runs of this job differ by recipe"
    assert eta(usual, START, START, recipe="C") == Unknown(why)
    assert eta(usual, START, START) == Unknown(why.replace("recipe C", "unknown recipe"))


def test_progress_tells_more_than_history_where_runs_differ():
    ways = [Way((Mark(0.5, duration / 4), Mark(1.0, duration)), duration) for duration in spread(20, sigma=0.5)]
    usual = learned(spread(200, sigma=0.5))
    found = eta(usual, START, after(40), mark=Mark(0.5, 40.0), ways=ways)
    assert isinstance(found, Eta)
    assert found.basis == "progress"
    assert (found.low_ns, found.high_ns) == (pytest.approx(after(160)), pytest.approx(after(160)))
    subjobs = eta(usual, START, after(40), mark=Mark(0.25, 20.0), ways=ways, basis="subjobs")
    assert isinstance(subjobs, Eta)
    assert subjobs.basis == "subjobs"


def test_progress_tells_where_history_is_silent():
    ways = [Way((Mark(0.5, 50.0), Mark(1.0, 100.0)), 100.0 + number) for number in range(LEAST_RUNS)]
    found = eta(None, START, after(400), mark=Mark(0.5, 300.0), ways=ways)
    assert isinstance(found, Eta)
    assert after(600) <= found.low_ns < found.high_ns < after(650)
    assert isinstance(eta(None, START, after(400), mark=Mark(0.5, 300.0), ways=ways[1:]), Unknown)
    assert isinstance(eta(None, START, after(400), mark=Mark(0.0, 0.0), ways=ways), Unknown)
    assert isinstance(eta(None, START, after(400), mark=Mark(7.0, 300.0), ways=ways), Unknown)


def coverage(kind, *, by_progress):
    """What share of ends was within the interval, asked at fixed times while runs of a month go on."""
    inside = asked = 0
    for seed in range(3):
        job = list(Job(kind, 4 * HOUR_S, seed).runs(480))
        for place in range(120, len(job)):
            run = job[place]
            if place % 6 == 0:
                usual = profile(job[:place], run.start_ns)
            if run.result != "success":
                continue
            before = [past for past in job[place - 24 : place] if past.result == "success"]
            for share in (0, 0.25, 0.5, 0.75, 1.0, 1.25):
                elapsed_s = share * usual.mid_s
                if elapsed_s >= run.duration_s:
                    break
                ways = [way_of(past) for past in before] if by_progress else []
                reached = [mark for mark in way_of(run).marks if mark.elapsed_s <= elapsed_s]
                now_ns = run.start_ns + round(elapsed_s * SECOND_NS)
                mark = reached[-1] if reached else None
                found = eta(usual, run.start_ns, now_ns, recipe=run.recipe, mark=mark, ways=ways)
                if isinstance(found, Eta):
                    asked += 1
                    inside += found.low_ns <= run.start_ns + round(run.duration_s * SECOND_NS) <= found.high_ns
    assert asked > 3000
    return inside / asked


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_four_of_five_runs_end_within_the_interval(kind):
    assert 0.75 <= coverage(kind, by_progress=False) <= 0.85


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["noisy", "two ways", "drifting", "by recipe"])
def test_four_of_five_runs_end_within_the_interval_by_uneven_progress(kind):
    assert 0.75 <= coverage(kind, by_progress=True) <= 0.85
