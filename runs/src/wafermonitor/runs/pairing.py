"""Which run is which expected one: a pure assignment, worked out anew each time from all that is known.

In: the expected runs of one expectation and the starts of the job's runs, any order. Out: for each expected run the start that
met it, or None. Called by: alerting (its evaluator and the dry run of rules over history).

A run that says for which time it was scheduled (`wafer.job.nominal_time`) is that one. The others are paired in the order of
time, no pair crossing another, such that as many as possible are on time, then as many as possible are paired at all, then the
lateness is least. A late tick therefore never takes the run of the next tick from it. What depends on nothing but its input
gives the same answer after a restart, after an outage, and in whatever order runs became known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from wafermonitor.runs.expectations import Expected
from wafermonitor.runs.records import RunKey

_NONE = (0, 0, 0)


class Start(NamedTuple):
    """One run that may meet an expectation: when it started by the receiver's clock, and for when it was scheduled, ns.

    `occasion` names what it is an attempt of (the run id that retries share); attempts of one occasion are one run, which
    started with the first of them. `run` is only carried along.
    """

    start_ns: int
    nominal_ns: int | None = None
    occasion: str | None = None
    run: RunKey | None = None


def pair(expected: Sequence[Expected], starts: Sequence[Start], until_ns: int | None = None) -> list[Start | None]:
    """For each of `expected` the start that met it, or None.

    A start after `missed_ns` still counts, up to the opening of the next expected run; for the last one up to `until_ns`.
    """
    order = sorted(range(len(expected)), key=lambda index: expected[index].nominal_ns)
    ticks = [expected[index] for index in order]
    met: list[Start | None] = [None] * len(ticks)
    free = _take_scheduled(ticks, met, first_attempts(starts))
    open_ticks = [index for index, start in enumerate(met) if start is None]
    ends = [_end(ticks, index, until_ns) for index in open_ticks]
    for tick, start in _pair_by_time([ticks[index] for index in open_ticks], ends, free):
        met[open_ticks[tick]] = free[start]
    answer: list[Start | None] = [None] * len(ticks)
    for place, one in zip(order, met, strict=True):
        answer[place] = one
    return answer


def first_attempts(starts: Sequence[Start]) -> list[Start]:
    """The starts in the order of time, retries of one occasion left out: a second attempt is not a second run."""
    seen: set[str] = set()
    kept = []
    for start in sorted(starts, key=lambda start: (start.start_ns, start.occasion or "", start.run or ())):
        if start.occasion is not None:
            if start.occasion in seen:
                continue
            seen.add(start.occasion)
        kept.append(start)
    return kept


def _take_scheduled(ticks: Sequence[Expected], met: list[Start | None], starts: Sequence[Start]) -> list[Start]:
    """Give starts with a nominal time to the tick of that time; what is left may be paired by time."""
    by_time = {tick.nominal_ns: index for index, tick in enumerate(ticks)}
    free = []
    for start in starts:
        index = None if start.nominal_ns is None else by_time.get(start.nominal_ns)
        if index is not None and met[index] is None:
            met[index] = start
        elif start.nominal_ns is None:
            free.append(start)
    return free


def _end(ticks: Sequence[Expected], index: int, until_ns: int | None) -> int:
    """The last moment at which a start still meets this tick, ns."""
    tick = ticks[index]
    following = ticks[index + 1].opens_ns - 1 if index + 1 < len(ticks) else until_ns
    return tick.missed_ns if following is None else max(tick.missed_ns, following)


def _worth(tick: Expected, end_ns: int, start: Start) -> tuple[int, int, int] | None:
    """(on time, paired, −lateness) of one pair; None when the start is outside the tick's time."""
    if not tick.opens_ns <= start.start_ns <= end_ns:
        return None
    if start.start_ns <= tick.late_ns:
        return 1, 1, -abs(start.start_ns - tick.nominal_ns)
    return 0, 1, tick.nominal_ns - start.start_ns


def _pair_by_time(ticks: Sequence[Expected], ends: Sequence[int], starts: Sequence[Start]) -> list[tuple[int, int]]:
    """(tick, start) pairs of the best assignment without crossings: the longest-common-subsequence table, with worths."""
    if not ticks or not starts:
        return []
    worths = [[_worth(tick, end, start) for start in starts] for tick, end in zip(ticks, ends, strict=True)]
    table = [[_NONE] * (len(starts) + 1) for _ in range(len(ticks) + 1)]
    for i in range(len(ticks) - 1, -1, -1):
        for j in range(len(starts) - 1, -1, -1):
            table[i][j] = max(_joined(worths[i][j], table[i + 1][j + 1]), table[i][j + 1], table[i + 1][j])
    pairs = []
    i = j = 0
    while i < len(ticks) and j < len(starts):
        if worths[i][j] is not None and table[i][j] == _joined(worths[i][j], table[i + 1][j + 1]):
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif table[i][j] == table[i][j + 1]:
            j += 1
        else:
            i += 1
    return pairs


def _joined(worth: tuple[int, int, int] | None, rest: tuple[int, int, int]) -> tuple[int, int, int]:
    if worth is None:
        return (-1, -1, 0)
    return worth[0] + rest[0], worth[1] + rest[1], worth[2] + rest[2]
