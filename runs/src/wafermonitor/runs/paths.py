"""The subjobs of a run by their path: where its time went, what is on its critical path, which of them failed first.

In: a `Tree` (a run and what is below it) and now in ns. Out: `Stretch`es, critical steps, a chain of failures.
Called by: explain, `storage.cohort`.

A path is the jobs' names from the run downward, so that the 25 wafers of a lot are one path and can be compared with the 25
wafers of another lot. Nothing here is recursive: depth is the sender's choice, and so may be a circle.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import NamedTuple

from wafermonitor.runs.records import Run
from wafermonitor.runs.state import BAD_RESULTS, SECOND_NS, State

Path = tuple[str, ...]
MAX_DEPTH = 20
"""What lies deeper counts for its ancestor at this depth."""
_JITTER_NS = 1_000_000
"""One subjob may end by this much after the next began, and they still follow each other."""


class Part(NamedTuple):
    """A run and its state."""

    run: Run
    state: State


class Tree(NamedTuple):
    """A run and, by span id, the direct subjobs of every run below it (what else stands there is not looked at)."""

    top: Part
    below: Mapping[bytes, Sequence[Part]]


class Stretch(NamedTuple):
    """The subjobs of one path: during how many seconds at least one was at work, how many there were, how long they took.

    `typical_s` is the middle one's duration; `longest` the one that took longest.
    """

    busy_s: float
    runs: int
    typical_s: float
    longest: Run
    longest_s: float


class Step(NamedTuple):
    """What the end of the run waited for in the subjobs of one path themselves (not in their own subjobs), and the longest."""

    path: Path
    own_s: float
    longest: Run


def walk(tree: Tree) -> Iterator[tuple[Path, Part]]:
    """Everything below the top, each once, parents before children."""
    seen = {tree.top.run.span_id}
    waiting: list[tuple[Path, bytes]] = [((), tree.top.run.span_id)]
    while waiting:
        path, span_id = waiting.pop()
        for part in tree.below.get(span_id, ()):
            if part.run.span_id in seen:
                continue
            seen.add(part.run.span_id)
            name = (*path, part.run.job or "?") if len(path) < MAX_DEPTH else path
            yield name, part
            waiting.append((name, part.run.span_id))


def stretches(tree: Tree, now_ns: int) -> dict[Path, Stretch]:
    """Where the time went, by path; runs without a start are left out."""
    times: dict[Path, list[tuple[int, int, Run]]] = {}
    for path, part in walk(tree):
        span = interval(part.run, now_ns)
        if span is not None:
            times.setdefault(path, []).append((*span, part.run))
    return {path: _stretch(found) for path, found in times.items()}


def interval(run: Run, now_ns: int) -> tuple[int, int] | None:
    """(start, end or now) in ns; None where it is not known."""
    end_ns = run.end_ns if run.ended else now_ns
    if run.start_ns is None or end_ns is None or end_ns < run.start_ns:
        return None
    return run.start_ns, end_ns


def elapsed_s(run: Run, now_ns: int) -> float | None:
    """How long it took, or has taken by now."""
    span = interval(run, now_ns)
    return None if span is None else (span[1] - span[0]) / SECOND_NS


def critical_path(tree: Tree, now_ns: int) -> list[Step]:
    """What the end (or now) waited for, by path, the greatest first; the empty path is the run itself.

    Backwards from the end: the subjob that ended last is what was waited for, then the one that had ended before it began.
    """
    span = interval(tree.top.run, now_ns)
    if span is None:
        return []
    own: dict[Path, tuple[int, int, Run]] = {}
    seen = {tree.top.run.span_id}
    waiting: list[tuple[Path, Run, int, int]] = [((), tree.top.run, *span)]
    while waiting:
        path, run, from_ns, until_ns = waiting.pop()
        own_ns = until_ns - from_ns
        for child, child_from, child_until in _last_first(tree.below.get(run.span_id, ()), from_ns, until_ns, now_ns):
            if child.span_id in seen:
                continue
            seen.add(child.span_id)
            own_ns -= child_until - child_from
            name = (*path, child.job or "?") if len(path) < MAX_DEPTH else path
            waiting.append((name, child, child_from, child_until))
        total_ns, longest_ns, longest = own.get(path, (0, -1, run))
        own[path] = (total_ns + own_ns, *max((longest_ns, longest), (own_ns, run), key=lambda pair: pair[0]))
    steps = [Step(path, total_ns / SECOND_NS, longest) for path, (total_ns, _, longest) in own.items()]
    return sorted(steps, key=lambda step: (-step.own_s, step.path))


def first_failure(tree: Tree) -> list[Part]:
    """From the top's subjob down to the one where it began: at each level the one that ended badly first. Empty: none did."""
    chain: list[Part] = []
    seen = {tree.top.run.span_id}
    span_id = tree.top.run.span_id
    while True:
        bad = [part for part in tree.below.get(span_id, ()) if is_bad(part.run) and part.run.span_id not in seen]
        if not bad:
            return chain
        worst = min(bad, key=lambda part: (part.run.end_ns or 0, part.run.span_id))
        chain.append(worst)
        span_id = worst.run.span_id
        seen.add(span_id)


def is_bad(run: Run) -> bool:
    """It ended, and a person should look."""
    return run.ended and run.result in BAD_RESULTS


def _last_first(parts: Sequence[Part], from_ns: int, until_ns: int, now_ns: int) -> Iterator[tuple[Run, int, int]]:
    """Subjobs that were waited for, from the last to the first, cut to what is left of the time."""
    spans = [(span, part.run) for part in parts if (span := interval(part.run, now_ns)) is not None]
    left_ns = until_ns
    slack_ns = max(0, *(end_ns - until_ns for (_, end_ns), _ in spans)) if spans else 0
    for (start_ns, end_ns), run in sorted(spans, key=lambda item: (-item[0][1], item[0][0], item[1].span_id)):
        begin_ns, finish_ns = max(start_ns, from_ns), min(end_ns, left_ns)
        if end_ns > left_ns + max(_JITTER_NS, slack_ns) or finish_ns <= begin_ns:
            continue
        yield run, begin_ns, finish_ns
        left_ns, slack_ns = begin_ns, 0


def _stretch(found: Sequence[tuple[int, int, Run]]) -> Stretch:
    busy_ns, reached_ns = 0, 0
    for start_ns, end_ns, _ in sorted(found, key=lambda one: one[:2]):
        busy_ns += max(0, end_ns - max(start_ns, reached_ns))
        reached_ns = max(reached_ns, end_ns)
    longest = max(found, key=lambda one: (one[1] - one[0], one[2].span_id))
    return Stretch(
        busy_ns / SECOND_NS,
        len(found),
        median(end_ns - start_ns for start_ns, end_ns, _ in found) / SECOND_NS,
        longest[2],
        (longest[1] - longest[0]) / SECOND_NS,
    )
