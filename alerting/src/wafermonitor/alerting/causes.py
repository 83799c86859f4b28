"""The likely cause of an alert about a run: what `runs.explain` says of it, from what the store knows.

In: an alert that opens. Out: a sentence or two, or None. Called by: evaluator, which bounds the time and survives errors.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from wafermonitor.runs.alerts import Alert
from wafermonitor.runs.explain import explain
from wafermonitor.runs.records import parse_run_id
from wafermonitor.storage.cohort import gather
from wafermonitor.storage.protocol import Reader


class Causes:
    """Explains alerts from one store. `clock` gives now in ns."""

    def __init__(self, reader: Reader, clock: Callable[[], int] = time.time_ns) -> None:
        self._reader = reader
        self._clock = clock

    async def __call__(self, alert: Alert) -> str | None:
        """The cause; None where the alert is about no run, or nothing is unusual about it."""
        ids = _run_of(alert)
        if ids is None:
            return None
        stored = await self._reader.run(*ids, alert.subject.site)
        if stored is None:
            return None
        gathered = await gather(self._reader, stored, self._clock())
        return explain(gathered.case).cause


def _run_of(alert: Alert) -> tuple[bytes, bytes] | None:
    """The run that it is about, or that its evidence names."""
    if alert.subject.run is not None:
        return alert.subject.run.trace_id, alert.subject.run.span_id
    named = json.loads(alert.evidence).get("run")
    return parse_run_id(named) if isinstance(named, str) else None
