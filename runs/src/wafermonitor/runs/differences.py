"""How a run differs from the runs of its job before it: what changed since the last good one, what fails together.

In: runs, and where they ran. Out: `Change`s and `Suspect`s.  Called by: explain, absence.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from wafermonitor.runs.paths import is_bad
from wafermonitor.runs.records import Run

PARAMETER = "wafer.param."
MAX_CHANGES = 6
_LEAST_RUNS = 3
_SUSPICIOUS = 0.5
"""A value is suspected when at least this share of its runs fails …"""
_ELSEWHERE = 1 / 3
"""… and elsewhere at most this part of that share."""


class Place(NamedTuple):
    """Where a run ran, as its resource says."""

    host: str | None = None
    pid: str | None = None


class Change(NamedTuple):
    """A fact that is another than in the last good run. `seen`: some other good run was like that, too."""

    fact: str
    before: str | None
    after: str | None
    seen: bool


class Suspect(NamedTuple):
    """A value with which runs fail that go well without it: failed and all runs with it, and without it."""

    fact: str
    value: str
    failed: int
    runs: int
    failed_elsewhere: int
    runs_elsewhere: int


_FACTS: tuple[tuple[str, Callable[[Run], str | None]], ...] = (
    ("equipment", lambda run: run.equipment),
    ("recipe", lambda run: run.recipe),
    ("product", lambda run: run.product),
    ("program", lambda run: run.service),
    ("version", lambda run: run.service_version),
    ("feed", lambda run: run.feed),
    ("trigger", lambda run: run.trigger),
)


def changes(run: Run, place: Place, good: Sequence[Run], good_place: Place) -> list[Change]:
    """What is not as it was in the last of the `good` runs (newest first), at most `MAX_CHANGES`; what no good run had first.

    Parameters are compared only where all good runs had the same: others are results, or differ from lot to lot.
    """
    last = good[0]
    found = [
        Change(fact, value(last), value(run), any(value(one) == value(run) for one in good))
        for fact, value in _FACTS
        if value(run) not in {None, value(last)}
    ]
    if place.host not in {None, good_place.host}:
        found.append(Change("host", good_place.host, place.host, seen=False))
    before, after = steady_parameters(good), parameters(run)
    found += [Change(name, before[name], after.get(name), seen=False) for name in before if before[name] != after.get(name)]
    return sorted(found, key=lambda one: one.seen)[:MAX_CHANGES]


def known_facts(run: Run, place: Place) -> list[str]:
    """The facts that were compared because the run says them."""
    return [fact for fact, value in _FACTS if value(run) is not None] + (["host"] if place.host is not None else [])


def suspects(run: Run, recent: Sequence[Run]) -> list[Suspect]:
    """Values of `run` with which most runs fail, the most telling first. `recent`: runs of the job."""
    known = [run, *recent]
    return _most_telling(_suspect(fact, value, value(run), known) for fact, value in _FACTS)


def all_suspects(runs: Sequence[Run]) -> list[Suspect]:
    """Values that any of `runs` has and with which most fail, the most telling first."""
    values = ((fact, value, mine) for fact, value in _FACTS for mine in sorted({value(run) for run in runs} - {None}, key=str))
    return _most_telling(_suspect(fact, value, mine, runs) for fact, value, mine in values)


def _suspect(fact: str, value: Callable[[Run], str | None], mine: str | None, runs: Sequence[Run]) -> Suspect | None:
    ended = [one for one in runs if one.ended]
    with_it = [one for one in ended if value(one) == mine]
    others = [one for one in ended if value(one) not in {mine, None}]
    if mine is None or len(with_it) < _LEAST_RUNS or len(others) < _LEAST_RUNS:
        return None
    failed, elsewhere = sum(map(is_bad, with_it)), sum(map(is_bad, others))
    rate, rate_elsewhere = failed / len(with_it), elsewhere / len(others)
    if rate < _SUSPICIOUS or rate_elsewhere > rate * _ELSEWHERE:
        return None
    return Suspect(fact, mine, failed, len(with_it), elsewhere, len(others))


def _most_telling(found: Iterable[Suspect | None]) -> list[Suspect]:
    known = [one for one in found if one is not None]
    return sorted(known, key=lambda one: (one.failed_elsewhere / one.runs_elsewhere - one.failed / one.runs, one.fact))


def parameters(run: Run) -> dict[str, str]:
    """The run's `wafer.param.*` as text."""
    try:
        attributes: Any = json.loads(run.attributes or "{}")
    except ValueError:
        return {}
    if not isinstance(attributes, dict):
        return {}
    return {name: _text(value) for name, value in attributes.items() if name.startswith(PARAMETER)}


def steady_parameters(good: Sequence[Run]) -> dict[str, str]:
    """Parameters that all of several good runs had alike."""
    if len(good) < _LEAST_RUNS:
        return {}
    first, *others = map(parameters, good)
    return {name: value for name, value in sorted(first.items()) if all(one.get(name) == value for one in others)}


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
