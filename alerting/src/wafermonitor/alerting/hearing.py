"""The last time in which nothing was read of the store, as a note in it: what ran then could not be heard.

In: the note of the tick before, when this one reads. Out: the new note and the `Gap`. Called by: evaluator. Pure.

A program that sends without a Collector has no feed whose watermark stands still while the store is away, so that its silence
would count. A store that was not read for a few ticks may have taken nothing either.
"""

from __future__ import annotations

import json

from wafermonitor.alerting.snapshot import Gap
from wafermonitor.runs.state import SECOND_NS

NOTE = "heard"
LEAST_NS = 30 * SECOND_NS
"""Shorter than the shortest silence that is told of, and longer than a tick that takes its time."""


def hear(note: str | None, ticked_ns: int | None, now_ns: int) -> tuple[str, Gap | None]:
    """The note after a tick at `now_ns` that could read, and the last gap before it; `ticked_ns`: for who has no note yet."""
    read_ns, last = json.loads(note) if note else (ticked_ns, None)
    if read_ns is not None and now_ns - read_ns > LEAST_NS:
        last = [read_ns, now_ns]
    return json.dumps([now_ns, last], separators=(",", ":")), None if last is None else Gap(*last)
