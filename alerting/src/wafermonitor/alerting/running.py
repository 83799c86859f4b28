"""`wafer alerting run`, `once`, `status` behind their flags: the loop around the evaluator, and what it needs.

In: a `Config`; the store of `WAFER_STORAGE_*`; files with rules. Out: ticks, messages, `/metrics`; lines on stdout.
Called by: command.

Any number of processes may run. One that sees another's ticks stands by, and takes over when they stop.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from wafermonitor.alerting import host
from wafermonitor.alerting.causes import Causes
from wafermonitor.alerting.config import Config
from wafermonitor.alerting.declared import Declared, load
from wafermonitor.alerting.errors import AlertingError, AlertingRejected
from wafermonitor.alerting.evaluator import Evaluator, Ticked
from wafermonitor.alerting.metrics import Meters, shown
from wafermonitor.alerting.notify.notifier import Notifier
from wafermonitor.alerting.notify.outside import Outage, Ping
from wafermonitor.instrumentation.service import stop_event
from wafermonitor.runs.alerts import Alert, Origin
from wafermonitor.storage.answers import say
from wafermonitor.storage.config import Config as StorageConfig
from wafermonitor.storage.connect import connect
from wafermonitor.storage.errors import StorageError
from wafermonitor.storage.protocol import Storage
from wafermonitor.storage.watch import AlertQuery, Watch

SERVICE = "wafer-alerting"
_STALE_TICKS = 3
_LEAST_STALE_S = 60.0
_RUN_S = 1800.0
"""One run of the job `alerting` follows the other, so that none runs long and the death of this process leaves a lost one."""
_PATIENCE = 1.5
"""Another process leads no more when it has not ticked for so many ticks."""
_GARBAGE = 100_000
_ORDER_S = 3.0
"""How long an end in order may take, before what hangs is left behind."""
_log = logging.getLogger(__name__)


def spare_garbage() -> None:
    """A tick makes some ten thousand records and drops them: looking for cycles among them doubles what it costs."""
    gc.freeze()
    gc.set_threshold(_GARBAGE, 20, 20)


async def run(config: Config, *, as_json: bool) -> None:
    """Evaluate and tell until SIGTERM or SIGINT. Raises StorageError, AlertingRejected."""
    stop = stop_event()
    spare_garbage()
    meters = Meters(stale_s=stale_s(config))
    async with _opened() as (storage, watch):
        with shown(meters, config.metrics_address) if config.metrics_address else nullcontext() as port:
            service = Service(config, storage, watch, meters)
            await service.declare()
            ready = {"ready": "alerting", "pid": os.getpid(), "metrics_port": port}
            say(ready, f"ready: {len(service.declared.rules)} rules are watched", as_json=as_json)
            await _until_stopped(stop, service.keep(stop), service.notifier.run(stop))


async def _until_stopped(stop: asyncio.Event, *works: Coroutine[Any, Any, None]) -> None:
    """Until `stop`, or until one of `works` ends; then each may end in order, and what still waits for an answer is left.

    A tick stores all or nothing, and a message that was not settled is another's after its lease: neither is lost.
    """
    tasks = [asyncio.create_task(work) for work in works]
    asked = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([*tasks, asked], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.set()
        _, left = await asyncio.wait([*tasks, asked], timeout=_ORDER_S)
        for task in left:
            task.cancel()
        await asyncio.wait([*tasks, asked], timeout=_ORDER_S)
    for task in tasks:
        if task.done() and not task.cancelled():
            task.result()


async def once(config: Config, *, as_json: bool) -> int:
    """Evaluate and send what is due, once; 1 when another process is at it."""
    async with _opened() as (storage, watch):
        service = Service(config, storage, watch, Meters())
        await service.declare()
        ticked = await service.evaluator.tick()
        if ticked is None:
            say({"busy": True}, "another process evaluates", as_json=as_json)
            return 1
        sent = await service.notifier.once()
    facts = {
        "busy": False,
        "expectations": ticked.expectations,
        "opened": [alert.summary for alert in ticked.opened],
        "resolved": [alert.summary for alert in ticked.resolved],
        "open": len(ticked.open_alerts),
        "faults": ticked.faults,
        "messages": sent,
    }
    lines = [f"opened: {alert.severity.word}: {alert.summary}" for alert in ticked.opened]
    lines += [f"resolved: {alert.summary}" for alert in ticked.resolved]
    lines += [f"cannot follow {name}: {text}" for name, text in ticked.faults.items()]
    lines.append(f"{ticked.expectations} expectations, {len(ticked.open_alerts)} open alerts, {sent} messages due")
    say(facts, "\n".join(lines), as_json=as_json)
    return 0


async def status(config: Config, *, as_json: bool) -> int:
    """When it was evaluated last, and what is open; 1 when nobody evaluates."""
    async with _opened() as (_, watch):
        ticked_ns = await watch.ticked_ns()
        alerts = await _open_alerts(watch)
        expectations = [one for one in await watch.expectations() if one.origin is not Origin.PROPOSED]
    age_s = None if ticked_ns is None else max(0.0, time.time() - ticked_ns / 1e9)
    well = age_s is not None and age_s < stale_s(config)
    counts = Counter(alert.severity.word for alert in alerts)
    facts: dict[str, Any] = {
        "evaluates": well,
        "last_tick_age_s": age_s,
        "expectations": len(expectations),
        "open_alerts": dict(counts),
        "acknowledged": sum(alert.acknowledged_ns is not None for alert in alerts),
    }
    when = "never" if age_s is None else f"{age_s:.0f} s ago"
    lines = [
        f"evaluated: {when}" + ("" if well else "; nobody evaluates: start `wafer alerting run`"),
        f"expectations: {len(expectations)}",
        f"open alerts: {', '.join(f'{number} {word}' for word, number in sorted(counts.items())) or 'none'}",
    ]
    say(facts, "\n".join(lines), as_json=as_json)
    return 0 if well else 1


def stale_s(config: Config) -> float:
    """After so long without a tick nobody evaluates."""
    return max(_LEAST_STALE_S, _STALE_TICKS * config.tick_s)


class Service:
    """An evaluator and a notifier that follow the same files."""

    def __init__(self, config: Config, storage: Storage, watch: Watch, meters: Meters) -> None:
        self._config = config
        self._watch = watch
        self._meters = meters
        self._files: object = None
        self._own_ns: int | None = None
        self._other: tuple[int | None, float] = (None, 0.0)
        self._first = True
        self.declared, self._fault = _load(config, None)
        disks, certificates = config.paths(config.disks), config.paths(config.certificates)
        self.evaluator = Evaluator(
            storage,
            self.declared,
            host=lambda: host.look(disks, certificates),
            explain=Causes(storage.reader, watch),
            catch_up_s=config.catch_up_days * 86_400.0,
        )
        self.notifier = Notifier(watch, self.declared.routes, meters, url=config.url)
        self.outage = Outage(url=config.url)
        self._ping = Ping(config.ping.get_secret_value())

    async def declare(self) -> None:
        """Follow the files as they are now. One that cannot be read changes nothing, and is told of."""
        files = _files(self._config.rules)
        if files == self._files:
            return
        self.declared, self._fault = await asyncio.to_thread(_load, self._config, self.declared)
        if self._fault is None:
            await self._watch.declare(self.declared.expectations)
        else:
            _log.error("rules: %s", self._fault)
        self.evaluator.follow(self.declared, {} if self._fault is None else {"the rules": self._fault})
        self.notifier.routes = self.declared.routes
        self._files = files

    async def keep(self, stop: asyncio.Event) -> None:
        """Tick every `tick_s` until `stop` is set, while no other process does."""
        loop = asyncio.get_running_loop()
        while not stop.is_set():
            with _told():
                until = loop.time() + _RUN_S
                while not stop.is_set() and loop.time() < until:
                    due = loop.time() + self._config.tick_s
                    await self.tick()
                    with suppress(TimeoutError):
                        await asyncio.wait_for(stop.wait(), max(0.0, due - loop.time()))

    async def tick(self) -> None:
        """One tick, or a look at who ticks; whatever fails, the next one may work."""
        began = time.perf_counter()
        ticked: Ticked | None = None
        try:
            await self.declare()
            if not await self._stands_by():
                ticked = await self.evaluator.tick()
        except (StorageError, AlertingError) as error:
            _log.warning("this tick is left out: %s", error)
            self._failed(str(error))
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the next tick may work
            _log.exception("this tick is left out")
            self._failed(type(error).__name__)
            return
        self._first = False
        self.outage.ends()
        self._ping.tick()
        self._meters.leads.set(ticked is not None)
        self._meters.ticks.labels("standby" if ticked is None else "stored").inc()
        if ticked is not None:
            self._own_ns = ticked.now_ns
            self._meters.tick_s.observe(time.perf_counter() - began)
            self.notifier.poke()

    def _failed(self, why: str) -> None:
        self._meters.ticks.labels("failed").inc()
        self._meters.leads.set(0)
        self.outage.goes_on(why, self.declared.rules, self.declared.routes)

    async def _stands_by(self) -> bool:
        """Whether another process ticks: the time of the last tick changes, and not by us. The first look is ours at once."""
        ticked_ns = await self._watch.ticked_ns()
        if self._first or ticked_ns is None or ticked_ns == self._own_ns:
            return False
        if ticked_ns != self._other[0]:
            self._other = ticked_ns, time.monotonic()
            return True
        return time.monotonic() - self._other[1] < _PATIENCE * self._config.tick_s


@asynccontextmanager
async def _opened() -> AsyncIterator[tuple[Storage, Watch]]:
    storage = await connect(StorageConfig.load(), watch=True)
    try:
        if storage.watch is None:
            raise AlertingRejected("ClickHouse keeps no alerts: set WAFER_ALERTING_DSN to a PostgreSQL for them")
        yield storage, storage.watch
    finally:
        await storage.close()


async def _open_alerts(watch: Watch) -> list[Alert]:
    found: list[Alert] = []
    cursor: str | None = None
    while True:
        page = await watch.alerts(AlertQuery(open=True, cursor=cursor, limit=1000))
        found += page.items
        cursor = page.cursor
        if cursor is None:
            return found


def _load(config: Config, before: Declared | None) -> tuple[Declared, str | None]:
    """What is declared; where it cannot be read, what was before (at first the standard rules) and why."""
    try:
        return load(config.rules), None
    except (AlertingRejected, OSError) as error:
        return before if before is not None else load(None), str(error)


def _files(path: Path | None) -> object:
    """What changes when a file of rules does, or the year whose holidays were worked out."""
    year = datetime.now(UTC).year
    if path is None:
        return year, ()
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        return year, tuple((str(file), stat.st_mtime_ns, stat.st_size) for file in files for stat in [file.stat()])
    except OSError as error:
        return year, str(error)


def _told() -> AbstractContextManager[object]:
    """This process as a run of a job, where it was told to send telemetry: whoever watches that sees it die."""
    if not (os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")):
        return nullcontext()
    from wafermonitor.instrumentation import job

    os.environ.setdefault("OTEL_SERVICE_NAME", SERVICE)
    made: Callable[[str], AbstractContextManager[object]] = job
    return made("alerting")
