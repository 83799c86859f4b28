"""What two looks at the Collector's own metrics say: how many hours its queues hold at the present rate, and what it dropped.

In: two `onward.Page`s. Out: one `Report` per exporter with a queue, one `Loss` per exporter that dropped something.
Called by: `supervise`.

The Collector counts what enters a queue per exporter but the room per exporter and signal. So the hours are a lower bound:
all that enters is reckoned against the signal with the least room.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from wafermonitor.instrumentation.onward import Page, Queue, remedy, size

_HOUR_S: Final = 3600.0


class Report(NamedTuple):
    """`hours` is None while nothing enters. `refused` counts items since the last reading."""

    exporter: str
    rate: float
    used: float
    hours: float | None
    refused: float

    def __str__(self) -> str:
        if self.refused:
            return f"the queue of {self.exporter} is full: {self.refused:.0f} items were refused and wait at their senders"
        if self.hours is None:
            return f"the queue of {self.exporter} is idle, {size(self.used)} wait"
        hours = f"{self.hours:,.0f}" if self.hours >= 10 else f"{self.hours:.1f}"  # noqa: PLR2004 - two digits say enough
        return f"the queue of {self.exporter} holds {hours} h or more at {size(self.rate)}/s, {size(self.used)} wait"


class Loss(NamedTuple):
    """`items` that an exporter dropped since the last look; `cause` is the kind of error that dropped most of all."""

    exporter: str
    items: float
    cause: str

    def __str__(self) -> str:
        records = "1 record" if self.items == 1 else f"{self.items:.0f} records"
        return f"DATA IS LOST: {self.exporter} dropped {records} ({self.cause}): {remedy(self.cause)}"


def reports(before: dict[str, Queue], after: dict[str, Queue], elapsed_s: float) -> list[Report]:
    """What happened between two readings. After a restart the counters begin anew, so that all of `after` is new."""
    found = []
    for exporter, now in sorted(after.items()):
        then = before.get(exporter)
        if then is None or then.entered > now.entered:
            then = Queue(0.0, now.free, 0.0, 0.0)
        rate = (now.entered - then.entered) / elapsed_s
        hours = max(now.free, 0.0) / rate / _HOUR_S if rate > 0 else None
        found.append(Report(exporter, rate, now.used, hours, now.refused - then.refused))
    return found


def losses(before: Page, after: Page) -> list[Loss]:
    """What was dropped between two looks."""
    found = []
    for exporter, kinds in sorted(after.dropped.items()):
        then, now = sum(before.dropped.get(exporter, {}).values()), sum(kinds.values())
        items = now - then if now >= then else now
        if items:
            found.append(Loss(exporter, items, max(kinds, key=lambda kind: kinds[kind])))
    return found
