"""When the progress of open runs last grew: what heartbeats cannot say, because each repeats the progress with its own time.

In: what was known after the last tick (JSON text of a note) and the open runs. Out: the same for this tick, and as text.
Called by: evaluator, rehearsal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from wafermonitor.runs.records import Feed, Progress, Run, RunKey
from wafermonitor.runs.state import clock_skew

NOTE = "advanced"
"""Name of the evaluator's note that holds it."""

Advanced = Mapping[RunKey, tuple[str, int]]
"""By run: how far it was, as one text, and since when it stands there, ns by the store's clock."""


def advance(
    known: Advanced, open_runs: Sequence[Run], feeds: Mapping[tuple[str, str], Feed], now_ns: int
) -> dict[RunKey, tuple[str, int]]:
    """What is known of `open_runs` now; runs that are not open any more are forgotten.

    A run first seen with some progress has stood there since that report, so that a restart of the evaluator loses nothing but
    the time before it.
    """
    fresh = {}
    for run in open_runs:
        if run.progress is None:
            continue
        mark, before = _mark(run.progress), known.get(run.key)
        if before is not None and before[0] == mark:
            fresh[run.key] = before
        else:
            feed = None if run.feed is None else feeds.get((run.site, run.feed))
            fresh[run.key] = mark, min(now_ns, run.progress.at_ns + (clock_skew(feed) if feed is not None else 0))
    return fresh


def since(advanced: Advanced) -> dict[RunKey, int]:
    """As `Snapshot.advanced` wants it."""
    return {key: since_ns for key, (_, since_ns) in advanced.items()}


def dumps(advanced: Advanced) -> str:
    """As JSON text."""
    rows = [[key.site, key.trace_id.hex(), key.span_id.hex(), mark, at] for key, (mark, at) in sorted(advanced.items())]
    return json.dumps(rows, ensure_ascii=False, separators=(",", ":"))


def loads(text: str | None) -> dict[RunKey, tuple[str, int]]:
    """What `dumps` wrote; nothing where there is no note yet."""
    rows = json.loads(text) if text else []
    return {RunKey(site, bytes.fromhex(trace), bytes.fromhex(span)): (mark, at) for site, trace, span, mark, at in rows}


def _mark(progress: Progress) -> str:
    return json.dumps([progress.ratio, progress.completed, progress.stage], separators=(",", ":"))
