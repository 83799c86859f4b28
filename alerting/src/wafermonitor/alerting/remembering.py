"""What the evaluator must know of earlier ticks, as notes in the store: JSON texts by name. All of it is pure.

In: the text of a note, what this tick saw. Out: the new text. Called by: looking, evaluator.

`outages`: feeds that are behind, and those that were lately. `ended`: runs that ended badly or were told of, because a run
that ended changes again when its span follows its end event, and may have been mended by then. `asked`: when rules that are
not asked each tick were asked last. `called`: runs that have called for others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

from wafermonitor.runs.records import Feed, Run, RunKey
from wafermonitor.runs.state import BAD_RESULTS, SECOND_NS, Limits, clock_skew

MARK, TOKEN, OUTAGES, ENDED = "mark", "changes", "outages", "ended"
ASKED, HOLDING, CALLED = "asked", "holding", "called"
"""Names of notes. `mark` names the tick that was stored last: a process that did not store it forgets what it knew."""
LONGEST_HOLD_NS = 3600 * SECOND_NS
ENDED_NS = 2 * 86_400 * SECOND_NS
MOST_ENDED = 20_000
CALLED_NS = 3 * 86_400 * SECOND_NS
"""Longer than a run may call for others after it ended."""
MOST_CALLED = 50_000
_GAP_NS = 120 * SECOND_NS

Outages = dict[tuple[str, str], tuple[int, int | None]]
"""By feed: up to when it had told when it fell behind, and when it had caught up (None: not yet), ns by the store's clock."""


def outages(
    known: Outages, feeds: Mapping[tuple[str, str], Feed], now_ns: int, ticked_ns: int | None, limits: Limits
) -> Outages:
    """The outages after this tick; those whose hold is over are forgotten.

    While nobody evaluated, an outage may have come and gone unseen: the whole gap counts as one.
    """
    after: Outages = {}
    allowed_ns = round((limits.margin_s + limits.behind_s) * SECOND_NS)
    gap = ticked_ns if ticked_ns is not None and now_ns - ticked_ns > _GAP_NS else None
    for key, feed in feeds.items():
        if feed.watermark_ns is None:
            continue
        told_ns = feed.watermark_ns + clock_skew(feed)
        before = known.get(key)
        if now_ns - told_ns > allowed_ns:
            after[key] = (min(told_ns, before[0]), None) if before is not None else (told_ns, None)
            continue
        if before is None and gap is not None:
            before = (gap, None)
        if before is not None:
            began_ns, ended_ns = before[0], before[1] if before[1] is not None else now_ns
            if now_ns < ended_ns + min(LONGEST_HOLD_NS, ended_ns - began_ns):
                after[key] = began_ns, ended_ns
    return after


def holds(known: Outages) -> dict[tuple[str, str], int]:
    """By feed, up to when runs that are told of by their span alone have come for sure."""
    return {key: began_ns for key, (began_ns, _) in known.items()}


def outages_text(known: Outages) -> str:
    """As JSON text."""
    return _text([[*key, *stretch] for key, stretch in sorted(known.items())])


def read_outages(text: str | None) -> Outages:
    """What `outages_text` wrote."""
    return {(site, feed): (began_ns, ended_ns) for site, feed, began_ns, ended_ns in json.loads(text or "[]")}


def newly_ended(changed: Iterable[Run], known: Mapping[str, int]) -> list[Run]:
    """The runs among `changed` that ended, without those that are known."""
    last = {run.key: run for run in changed if run.ended}
    return [run for run in last.values() if _digest(run) not in known]


def ended(known: Mapping[str, int], runs: Sequence[Run], told: Container[RunKey | None], now_ns: int) -> dict[str, int]:
    """`known` with those of `runs` that ended badly or are `told` of, without what is too old."""
    kept = {digest: at_ns for digest, at_ns in known.items() if now_ns - at_ns < ENDED_NS}
    kept |= {_digest(run): now_ns for run in runs if run.result in BAD_RESULTS or run.key in told}
    return dict(sorted(kept.items(), key=lambda one: one[1])[-MOST_ENDED:])


def called(known: Mapping[str, int], calls: Iterable[str], now_ns: int) -> dict[str, int]:
    """`known` with the calls of this tick, without what is too old; of too many the newest."""
    kept = {call: at_ns for call, at_ns in known.items() if now_ns - at_ns < CALLED_NS}
    kept |= dict.fromkeys(calls, now_ns)
    return dict(sorted(kept.items(), key=lambda one: one[1])[-MOST_CALLED:])


def read_numbers(text: str | None) -> dict[str, int]:
    """A note that gives numbers by name."""
    return dict(json.loads(text or "{}"))


def numbers_text(numbers: Mapping[str, int]) -> str:
    """As JSON text."""
    return _text(dict(numbers))


def _digest(run: Run) -> str:
    return hashlib.sha256(f"{run.site}\0{run.key.id}\0{run.result}".encode()).hexdigest()[:16]


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
