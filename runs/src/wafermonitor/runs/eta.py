"""When a run that is still going will end, as far as the runs before it tell; and why not, where they do not.

In: what is usual for the job (`bands.Profile`), the run's start and how far it is, now, and how far runs before it were after
which time (`Way`). Out: an `Eta`, or `Unknown`. Called by: query.

Of all durations that were foreseeable when it started those count that are longer than it has taken by now. Where the runs
before it tell more surely by how far it is (its progress, or how many of its subjobs have ended), they are what counts: how
many times as long as to that place each of them took to its end. No progress is taken to be even. Four of five runs end within
the interval.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from wafermonitor.runs.bands import LEAST_RUNS, Profile
from wafermonitor.runs.state import SECOND_NS

_LOW, _MID, _HIGH = 0.1, 0.5, 0.9
_LEAST_LEFT = 4
"""Fewer runs that took longer than this one has say nothing about its end."""
_NEVER_LONGER_S = 1e9


class Eta(NamedTuple):
    """When it ends (ns): probably at `mid_ns`, four times of five between `low_ns` and `high_ns`.

    `basis` is `history`, `progress` or `subjobs`; `count` is how many runs speak.
    """

    low_ns: int
    mid_ns: int
    high_ns: int
    basis: str
    count: int  # type: ignore[assignment]  # nobody counts the fields of an estimate


class Unknown(NamedTuple):
    """Nobody can know when it ends; `why` is for people."""

    why: str


class Mark(NamedTuple):
    """How far a run was (a ratio, or a number of subjobs) so many seconds after its start."""

    position: float
    elapsed_s: float


class Way(NamedTuple):
    """How a run that ended well went: its marks in order of time, and how long it took to its end."""

    marks: tuple[Mark, ...]
    duration_s: float


class _Span(NamedTuple):
    low_s: float
    mid_s: float
    high_s: float
    count: int  # type: ignore[assignment]  # as above


def eta(
    profile: Profile | None,
    start_ns: int,
    now_ns: int,
    *,
    recipe: str | None = None,
    product: str | None = None,
    equipment: str | None = None,
    mark: Mark | None = None,
    ways: Sequence[Way] = (),
    basis: str = "progress",
) -> Eta | Unknown:
    """When a run that started at `start_ns`, of this recipe …, will end. `basis` says what `mark` and `ways` count."""
    elapsed_s = (now_ns - start_ns) / SECOND_NS
    if elapsed_s < 0:
        return Unknown("it starts in the future: its clock is ahead")
    traits = {"recipe": recipe, "product": product, "equipment": equipment}
    by_history = _by_history(profile, start_ns, elapsed_s, traits)
    by_mark = None if mark is None else _by_mark(mark, ways, elapsed_s)
    if by_mark is not None and (isinstance(by_history, Unknown) or _wide(by_mark) < _wide(by_history)):
        return _eta(by_mark, start_ns, now_ns, basis)
    return by_history if isinstance(by_history, Unknown) else _eta(by_history, start_ns, now_ns, "history")


def _by_history(profile: Profile | None, start_ns: int, elapsed_s: float, traits: dict[str, str | None]) -> _Span | Unknown:
    forecast = None if profile is None else profile.forecast
    if profile is None or forecast is None:
        runs = 0 if profile is None else profile.runs
        return Unknown(f"too little history: {runs} good runs of this job, {LEAST_RUNS} are needed")
    if not forecast.known(traits):
        value = traits[forecast.trait or ""]
        name = f"{forecast.trait} {value}" if value else f"unknown {forecast.trait}"
        return Unknown(f"too few good runs of {name}, and runs of this job differ by {forecast.trait}")
    foreseen = forecast.between(start_ns, traits)[0]
    durations = [math.exp(foreseen + error) for error in forecast.errors]
    left = durations[bisect_right(durations, elapsed_s) :]
    if len(left) < _LEAST_LEFT:
        return Unknown(f"it has taken longer than nearly all of the {profile.runs} good runs before it")
    return _span(left, profile.runs)


def _by_mark(mark: Mark, ways: Sequence[Way], elapsed_s: float) -> _Span | None:
    """What the ways of earlier runs say from where this one is; None where too few were there."""
    if mark.position <= 0.0 or mark.elapsed_s <= 0.0:
        return None
    there = [(way, reached) for way in ways if (reached := _reached(way, mark.position)) is not None and reached > 0.0]
    if len(there) < LEAST_RUNS:
        return None
    durations = sorted(mark.elapsed_s * max(way.duration_s / reached, 1.0) for way, reached in there)
    left = durations[bisect_right(durations, elapsed_s) :]
    return _span(left, len(there)) if len(left) >= _LEAST_LEFT else None


def _reached(way: Way, position: float) -> float | None:
    """After how many seconds `way` was at `position`, evenly between two marks; None beyond its last."""
    before = Mark(0.0, 0.0)
    for mark in way.marks:
        if mark.position >= position:
            share = (position - before.position) / (mark.position - before.position)
            return before.elapsed_s + share * (mark.elapsed_s - before.elapsed_s)
        before = mark
    return None


def _span(ordered: Sequence[float], count: int) -> _Span:
    return _Span(_quantile(ordered, _LOW), _quantile(ordered, _MID), _quantile(ordered, _HIGH), count)


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Where the next of such values is below with this chance: the rank is of one more than there are."""
    rank = min(max(share * (len(ordered) + 1) - 1, 0.0), len(ordered) - 1.0)
    below = int(rank)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (rank - below) * (ordered[above] - ordered[below])


def _wide(span: _Span) -> float:
    return span.high_s - span.low_s


def _eta(span: _Span, start_ns: int, now_ns: int, basis: str) -> Eta:
    low_ns, mid_ns, high_ns = (max(now_ns, start_ns + round(min(after_s, _NEVER_LONGER_S) * SECOND_NS)) for after_s in span[:3])
    return Eta(low_ns, mid_ns, high_ns, basis, span.count)
