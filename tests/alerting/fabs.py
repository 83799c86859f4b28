"""A fab of one site in memory, whose clock stands still: what tests of the evaluator write, and how they look at it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import count

from wafermonitor.alerting.declared import Declared, load
from wafermonitor.alerting.evaluator import Evaluator, Ticked
from wafermonitor.alerting.expecting import Wish, dumps
from wafermonitor.runs.alerts import Alert, Expectation, Origin
from wafermonitor.runs.records import Batch, FeedBeat, Run, RunKey
from wafermonitor.storage.memory import Storage
from wafermonitor.storage.watch import AlertQuery

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
T0 = 1_792_864_800 * SECOND
STANDARD = load(None)


class Fab:
    """`at` is now, in ns since T0. Feeds that are `linked` beat at each tick."""

    def __init__(self, storage: Storage | None = None) -> None:
        self.at = 0
        self.storage = storage if storage is not None else Storage(clock=self.now)
        self.linked = {"h1"}
        self._ids = count(1)

    def now(self) -> int:
        """By the store's clock."""
        return T0 + self.at

    async def expect(self, wish: Wish, job: str = "etch", name: str = "", site: str | None = "f1") -> None:
        """Save an expectation from now on: what is due this very moment is not expected any more."""
        now = self.now() + 1
        expectation = Expectation(name or job, site, job, Origin.API, dumps(wish), now, now, now)
        await self.storage.watch.save(expectation)

    async def ran(self, job: str = "etch", began: int | None = None, took: int = MINUTE, **fields: object) -> RunKey:
        """Write a run that announced itself and ended, `began` ns after T0 (else so that it ends now)."""
        number = next(self._ids)
        start = T0 + (self.at - took if began is None else began)
        known: dict[str, object] = {
            "start_ns": start, "end_ns": start + took, "job": job, "run_id": str(number), "feed": "h1", "result": "success",
            "end_rank": 2, "heartbeat_interval_s": 30.0, "last_sign_ns": start + took, "received_ns": self.now(),
        }  # fmt: skip
        return await self.write(number, known | fields)

    async def runs(self, job: str = "etch", began: int | None = None, **fields: object) -> RunKey:
        """Write a run that has begun and gives its last sign now."""
        number = next(self._ids)
        known: dict[str, object] = {
            "start_ns": T0 + (self.at if began is None else began), "job": job, "run_id": str(number), "feed": "h1",
            "heartbeat_interval_s": 30.0, "last_sign_ns": self.now(), "received_ns": self.now(),
        }  # fmt: skip
        return await self.write(number, known | fields)

    async def write(self, number: int, fields: dict[str, object]) -> RunKey:
        """Write what is known of the run of this number."""
        run = Run(site="f1", trace_id=number.to_bytes(16), span_id=number.to_bytes(8), **fields)  # type: ignore[arg-type]
        await self.storage.writer.write([Batch(runs=[run])])
        return run.key

    async def beat(self) -> None:
        """A beat of every linked feed."""
        now = self.now()
        await self.storage.writer.write([Batch(feeds=[FeedBeat("f1", feed, now, now, 0) for feed in sorted(self.linked)])])

    async def go(self, evaluator: Evaluator, until: int, step: int = 10 * SECOND) -> list[Ticked]:
        """Tick from now on every `step` until `until` ns after T0."""
        ticks = []
        while self.at < until:
            self.at = min(self.at + step, until)
            await self.beat()
            ticked = await evaluator.tick()
            assert ticked is not None
            ticks.append(ticked)
        return ticks

    def evaluator(self, declared: Declared = STANDARD, **options: object) -> Evaluator:
        """One that follows the standard rules."""
        return Evaluator(self.storage, declared, **options)  # type: ignore[arg-type]

    async def alerts(self, *rules: str) -> list[Alert]:
        """Every alert ever opened (of these rules), the oldest first."""
        page = await self.storage.watch.alerts(AlertQuery(rule=rules, limit=1000))
        assert page.cursor is None
        return sorted(page.items, key=lambda alert: (alert.opened_ns, alert.id))


def when(alerts: Sequence[Alert]) -> list[tuple[str, int, int | None]]:
    """Of each alert its rule, and the minutes after T0 at which it opened and was over."""
    return [
        (
            alert.rule,
            (alert.opened_ns - T0) // MINUTE,
            None if alert.resolved_ns is None else (alert.resolved_ns - T0) // MINUTE,
        )
        for alert in alerts
    ]


def number(alert: Alert, name: str) -> object:
    """One number of its evidence."""
    return json.loads(alert.evidence)[name]
