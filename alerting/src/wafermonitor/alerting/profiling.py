"""What is usual for the jobs that are judged in a tick, read from history as seldom as is good enough.

In: runs that are open or ended. Out: a `Profile` for each of their jobs. Called by: evaluator.

A profile is a function of stored runs. It is made anew when runs of its job ended since, at most every ten minutes; the kinds
of errors it knows are brought up to date at once, so that the same new error is told once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from wafermonitor.runs.bands import HISTORY, Profile, profile
from wafermonitor.runs.records import Run
from wafermonitor.runs.state import SECOND_NS
from wafermonitor.storage.protocol import Reader

_AGAIN_NS = 600 * SECOND_NS
_AT_ONCE = 500


class _Known(NamedTuple):
    profile: Profile
    made_ns: int
    old: bool = False


class Profiles:
    """The profiles that one evaluator has read."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._known: dict[tuple[str, str], _Known] = {}

    def forget(self) -> None:
        """Another process evaluated meanwhile."""
        self._known.clear()

    async def of(self, open_runs: Iterable[Run], ended: Sequence[Run], now_ns: int) -> dict[tuple[str, str], Profile]:
        """The profiles of the jobs of these runs; what just ended is not in them yet."""
        jobs = {(run.site, run.job) for runs in (open_runs, ended) for run in runs if run.job is not None}
        lacking = sorted(job for job in jobs if self._is_due(self._known.get(job), now_ns))
        fresh = {run.key for run in ended}
        for begin in range(0, len(lacking), _AT_ONCE):
            some = lacking[begin : begin + _AT_ONCE]
            for job, past in zip(some, await self._reader.history(some, HISTORY), strict=True):
                made = profile([run for run in past if run.key not in fresh], now_ns)
                self._known[job] = _Known(made, now_ns)
        return {job: self._known[job].profile for job in jobs}

    def ended(self, runs: Iterable[Run]) -> None:
        """These ended and have been judged: from now on they are history."""
        for run in runs:
            key = (run.site, run.job or "")
            known = self._known.get(key)
            if known is not None:
                errors = known.profile.error_types | ({run.error_type} if run.error_type else set())
                self._known[key] = _Known(known.profile._replace(error_types=errors), known.made_ns, old=True)

    @staticmethod
    def _is_due(known: _Known | None, now_ns: int) -> bool:
        return known is None or (known.old and now_ns - known.made_ns >= _AGAIN_NS)
