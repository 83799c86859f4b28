"""Is what we see of a run all there is? Counted from its child rows when read, never from counters.

In: a run and its direct subjobs. Out: `Completeness` with the words API and UI show.
Called by: query.  Source: design/2 §2.4.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from wafermonitor.runs.records import Run
from wafermonitor.runs.state import State

FINAL_SPAN = 2


class Verdict(StrEnum):
    """`complete`: all arrived. `waiting`: something may still come. `incomplete`: something never will."""

    COMPLETE = "complete"
    WAITING = "waiting"
    INCOMPLETE = "incomplete"


class Completeness(NamedTuple):
    """Counts of the direct subjobs, and whether the run's own span is here."""

    subjobs_started: int
    subjobs_ended: int
    subjobs_lost: int
    span_arrived: bool
    dropped: int

    @property
    def verdict(self) -> Verdict:
        """What the counts mean."""
        if self.dropped or self.subjobs_lost:
            return Verdict.INCOMPLETE
        if self.span_arrived and self.subjobs_started == self.subjobs_ended:
            return Verdict.COMPLETE
        return Verdict.WAITING

    @property
    def words(self) -> str:
        """`complete`, `waiting for N` or `incomplete: N never arrived`."""
        if self.verdict is Verdict.INCOMPLETE:
            return f"incomplete: {self.dropped + self.subjobs_lost} never arrived"
        if self.verdict is Verdict.WAITING:
            missing = self.subjobs_started - self.subjobs_ended + (0 if self.span_arrived else 1)
            return f"waiting for {missing}"
        return "complete"


def completeness(run: Run, subjobs: Iterable[tuple[Run, State]], dropped: int = 0) -> Completeness:
    """Count `run`'s direct subjobs by state. `dropped` is what the SDK or the Collector said it had to drop."""
    started = ended = lost = 0
    for _, state in subjobs:
        started += 1
        ended += state is State.ENDED
        lost += state is State.LOST
    return Completeness(started, ended, lost, run.end_rank == FINAL_SPAN, dropped)
