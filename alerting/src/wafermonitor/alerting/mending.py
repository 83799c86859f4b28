"""Lost runs whose job has run well since: their alerts are over, though the runs never end. As a note between ticks.

In: the note of the tick before, which runs are told to be lost, what ended in this tick. Out: the new note, and by run when
the good one began. Called by: evaluator. Pure.

Only a run whose loss was told is mended: with many runs at once, others end well before it is known that one is gone.
"""

from __future__ import annotations

import json
from collections.abc import Container, Mapping

from wafermonitor.alerting.judges.findings import GOOD, start_of
from wafermonitor.alerting.snapshot import Snapshot
from wafermonitor.runs.records import RunKey

NOTE = "mended"


def mend(known: Mapping[RunKey, int], told: Container[RunKey | None], snapshot: Snapshot) -> dict[RunKey, int]:
    """By open run that is `told` to be lost, when the last good run of its job began that ended since, ns by the store's clock.

    A run that is not open any more is forgotten; not while only a part of those that are could be read.
    """
    good: dict[tuple[str, str | None], int] = {}
    for run in snapshot.ended:
        start_ns = start_of(run, snapshot)
        if run.result == GOOD and start_ns is not None:
            good[run.site, run.job] = max(good.get((run.site, run.job), start_ns), start_ns)
    after = dict(known) if snapshot.cut else {}
    for run in snapshot.open_runs:
        since_ns = good.get((run.site, run.job)) if run.key in told else None
        best_ns = max((at_ns for at_ns in (known.get(run.key), since_ns) if at_ns is not None), default=None)
        if best_ns is not None:
            after[run.key] = best_ns
    return after


def dumps(mended: Mapping[RunKey, int]) -> str:
    """As JSON text."""
    rows = [[key.site, key.trace_id.hex(), key.span_id.hex(), at_ns] for key, at_ns in sorted(mended.items())]
    return json.dumps(rows, ensure_ascii=False, separators=(",", ":"))


def loads(text: str | None) -> dict[RunKey, int]:
    """What `dumps` wrote; nothing where there is no note yet."""
    rows = json.loads(text) if text else []
    return {RunKey(site, bytes.fromhex(trace), bytes.fromhex(span)): at_ns for site, trace, span, at_ns in rows}
