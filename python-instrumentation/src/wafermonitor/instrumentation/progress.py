"""How far a run is: throttled events, and the items of a loop with a bar on a terminal.

In: numbers that a loop reports as often as it likes. Out: few progress events. Called by: `jobs`.
"""

from __future__ import annotations

import math
import operator
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeVar

from wafermonitor.instrumentation.processor import Lifecycle, Run
from wafermonitor.instrumentation.values import clean
from wafermonitor.semconv import attributes as names

T = TypeVar("T")

EVERY_S: Final = 1.0
EVERY_RATIO: Final = 0.01


class Progress:
    """The progress of one run. An event goes out when a second has passed or 1 % was done since the last one."""

    def __init__(self, run: Run, lifecycle: Lifecycle) -> None:
        self._run = run
        self._lifecycle = lifecycle
        self._sent_s = -math.inf
        self._sent_ratio: float | None = None
        self._waiting = False

    def update(
        self,
        completed: float | None,
        total: float | None,
        *,
        ratio: float | None,
        unit: str | None,
        stage: str | None,
        message: str | None,
    ) -> None:
        """Keep it, and send it when it is time."""
        if ratio is None and completed is not None and total:
            ratio = completed / total
        if ratio is not None:
            ratio = min(max(float(ratio), 0.0), 1.0) if math.isfinite(ratio) else None
        told = (
            (names.WAFER_JOB_PROGRESS_RATIO, ratio),
            (names.WAFER_JOB_PROGRESS_COMPLETED, completed),
            (names.WAFER_JOB_PROGRESS_TOTAL, total),
            (names.WAFER_JOB_PROGRESS_UNIT, unit),
            (names.WAFER_JOB_PROGRESS_STAGE, stage),
            (names.WAFER_JOB_PROGRESS_MESSAGE, message),
        )
        known = ((name, clean(value)) for name, value in told if value is not None)
        self._run.progress = {name: value for name, value in known if not isinstance(value, float) or math.isfinite(value)}
        self._waiting = True
        now_s = time.monotonic()
        if now_s - self._sent_s >= EVERY_S or self._moved(ratio):
            self._send(now_s, ratio)

    def last(self) -> None:
        """The run ends: what was held back is sent."""
        if self._waiting:
            self._send(time.monotonic(), self._sent_ratio)

    def _moved(self, ratio: float | None) -> bool:
        if ratio is None or self._sent_ratio is None:
            return ratio is not self._sent_ratio
        return abs(ratio - self._sent_ratio) >= EVERY_RATIO

    def _send(self, now_s: float, ratio: float | None) -> None:
        self._sent_s, self._sent_ratio, self._waiting = now_s, ratio, False
        self._lifecycle.progress(self._run)


def tracked(
    items: Iterable[T],
    report: Callable[..., Any],
    *,
    total: int | None,
    unit: str | None,
    stage: str | None,
    bar: bool,
    label: str,
) -> Iterator[T]:
    """Give the items on, report after each one, and draw a bar when stderr is a terminal."""
    if total is None:
        total = operator.length_hint(items) or None
    if bar and sys.stderr.isatty():
        import click

        with click.progressbar(items, length=total, label=label, file=sys.stderr) as drawn:
            yield from _reported(drawn, report, total, unit, stage)
    else:
        yield from _reported(items, report, total, unit, stage)


def _reported(
    items: Iterable[T], report: Callable[..., Any], total: int | None, unit: str | None, stage: str | None
) -> Iterator[T]:
    report(0, total, unit=unit, stage=stage)
    for completed, item in enumerate(items, start=1):
        yield item
        report(completed, total, unit=unit, stage=stage)
