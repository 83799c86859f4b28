"""What is usual for one job at one site: how long its runs take, how much memory they use, how they fail.

In: its runs that ended (`Past`, the newest some hundreds, in any order) and now in ns. Out: a `Profile`, which gives a `Band`
of durations for a run that starts at a given time.
Called by: alerting (judges of durations, memory and new errors), query (ETA, badges), through `eta` for the time that remains.

Durations are compared by their logarithm, so that "twice as long" is the same step for a job of a second and one of a day.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple, Protocol, Self

LEAST_RUNS = 8
"""Fewer good runs than these say nothing about the next."""
_GOOD = "success"
_SHORTEST_S = 1e-3
_NARROWEST = 0.1
"""A band reaches at least this far (by logarithm: 10 %) from its middle, however equal the runs were."""


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


class Profile(NamedTuple):
    """What is usual for one job at one site. `mid_s`: the middle duration (None: no good run with one).

    `memory_bytes`: above this a run's memory is unusual (None: too little history). `error_types`: those that were seen.
    `low`, `high`: how far by logarithm a band reaches below and above its middle.
    """

    runs: int
    mid_s: float | None
    memory_bytes: int | None
    error_types: frozenset[str]
    low: float
    high: float

    def band(
        self,
        start_ns: int,  # noqa: ARG002 - every hour of the week is alike as yet
        *,
        recipe: str | None = None,  # noqa: ARG002 - and every recipe
        product: str | None = None,  # noqa: ARG002
        equipment: str | None = None,  # noqa: ARG002
    ) -> Band | None:
        """The usual durations of a run that starts at `start_ns` (of this recipe …); None: too little history."""
        if self.mid_s is None or self.runs < LEAST_RUNS:
            return None
        return Band(self.mid_s * math.exp(-self.low), self.mid_s, self.mid_s * math.exp(self.high), self.runs)

    def dumps(self) -> str:
        """As JSON text, which `loads` reads."""
        fields = self._asdict() | {"error_types": sorted(self.error_types)}
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def loads(cls, text: str) -> Self:
        """What `dumps` wrote; ValueError for any other text."""
        try:
            fields = json.loads(text)
            return cls(**fields | {"error_types": frozenset(fields["error_types"])})
        except (KeyError, TypeError) as broken:
            raise ValueError("this is no profile: learn it again from history") from broken


def profile(history: Sequence[Past], now_ns: int) -> Profile:
    """What is usual after `history`: the runs of one job at one site that ended; those after `now_ns` are left out."""
    known = sorted((run for run in history if run.start_ns <= now_ns), key=lambda run: run.start_ns)
    good = [run for run in known if run.result == _GOOD]
    logs = [math.log(max(run.duration_s, _SHORTEST_S)) for run in good if run.duration_s is not None]
    memory = [math.log(run.memory_bytes) for run in good if run.memory_bytes]
    reach = _reach(logs)
    return Profile(
        runs=len(logs),
        mid_s=math.exp(median(logs)) if logs else None,
        memory_bytes=round(math.exp(median(memory) + _reach(memory))) if len(memory) >= LEAST_RUNS else None,
        error_types=frozenset(run.error_type for run in known if run.error_type),
        low=reach,
        high=reach,
    )


def _reach(logs: Sequence[float]) -> float:
    if len(logs) < LEAST_RUNS:
        return 0.0
    middle = median(logs)
    return max(4.0 * 1.4826 * median(abs(log - middle) for log in logs), _NARROWEST)
