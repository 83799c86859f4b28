"""When each step is taken, by one process of many, with everything that came of it in the log.

In: an opened store. Out: the same store, in order. Called by: `wafer maintain`, the receiver and `wafer storage serve`.

Three loops: rounds of short steps, rounds of steps that may take hours, and the rollups' worker. Each has its own lock in the
database; whoever has it works, the others wait for it. A step that fails is logged and tried again; it stops no other one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import NamedTuple, Protocol, runtime_checkable

from wafermonitor.instrumentation.errors import ConfigRejected
from wafermonitor.storage.archive.config import Config as ArchiveConfig
from wafermonitor.storage.errors import StorageError
from wafermonitor.storage.maintain.config import Config
from wafermonitor.storage.maintain.steps import HOUR_S, MINUTE_S, STEPS, Step, Work
from wafermonitor.storage.protocol import Storage
from wafermonitor.storage.timescale import maintenance, rollups, store
from wafermonitor.storage.timescale.codecs import Connection
from wafermonitor.storage.timescale.failures import border

_RETRY_S = 5 * MINUTE_S
"""A step that failed and is not due each round is tried again after this."""
_LATE = 3
"""A step is late after so many of its pauses, and never within ten minutes."""
_log = logging.getLogger(__name__)
Told = Callable[[str], AbstractContextManager[object]]
"""Given the name of a round or step, something to be in while it runs: a run of a job, for whoever reports them."""


@runtime_checkable
class KeepsItself(Protocol):
    """A store with another engine, which has its own work to do."""

    async def keep(self, stop: asyncio.Event) -> None:
        """Do it until `stop` is set."""


class Outcome(NamedTuple):
    """What one step came to: done, nothing or failed, and in words."""

    step: str
    outcome: str
    report: str


def silent(_name: str) -> AbstractContextManager[object]:
    """Report to nobody."""
    return nullcontext()


async def keep(
    storage: Storage,
    stop: asyncio.Event,
    *,
    clock: Callable[[], int] = time.time_ns,
    long: bool = False,
    told: Told = silent,
) -> None:
    """Rounds every `maintain_interval_s` until `stop` is set, the rollups beside; with `long` what may take hours, too.

    A store that knows itself what it needs (ClickHouse) does that; memory is only waited for. `clock` gives now in ns.
    """
    if not isinstance(storage, store.Storage):
        await (storage.keep(stop) if isinstance(storage, KeepsItself) else stop.wait())
        return
    loops = [
        asyncio.create_task(rollups.keep(storage.pool, stop, interval_s=storage.config.rollup_interval_s), name="rollups"),
        asyncio.create_task(_rounds(storage, stop, clock, told, long=False), name="maintenance"),
    ]
    if long:
        loops.append(asyncio.create_task(_rounds(storage, stop, clock, told, long=True), name="long maintenance"))
    try:
        await stop.wait()
    finally:
        # What is under way is cut off: every step is a transaction, or goes on where it was.
        for task in loops[1:]:
            task.cancel()
        if not stop.is_set():
            loops[0].cancel()
        await asyncio.gather(*loops, return_exceptions=True)


async def _rounds(storage: store.Storage, stop: asyncio.Event, clock: Callable[[], int], told: Told, *, long: bool) -> None:
    steps = [step for step in STEPS if step.long is long]
    while not stop.is_set():
        try:
            await run_round(storage, steps, now_ns=clock(), rolls=True, told=told)
        except (StorageError, ConfigRejected) as error:
            _log.warning("maintenance of the store: %s", error)
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), storage.config.maintain_interval_s)


async def run_round(
    storage: store.Storage,
    steps: Sequence[Step],
    *,
    now_ns: int,
    force: bool = False,
    rolls: bool = False,
    told: Told = silent,
) -> list[Outcome] | None:
    """The steps that are due, or with `force` all; None when another process is at it.

    `rolls`: the rollups' worker runs beside. All of `steps` are short, or all long. Raises StorageUnavailable, ConfigRejected.
    """
    lock = maintenance.LONG_LOCK if any(step.long for step in steps) else maintenance.LOCK
    config, archive = Config.load(), ArchiveConfig.load()
    with border("maintain the store"):
        async with storage.pool.acquire() as connection, maintenance.leading(connection, lock) as leads:
            if not leads:
                return None
            states = await maintenance.states(connection)
            interval_s = storage.config.maintain_interval_s
            await maintenance.note_patience(connection, {step.name: patience_s(step, archive, interval_s) for step in steps})
            due = [step for step in steps if force or _is_due(step, states.get(step.name), archive, now_ns / 1e9)]
            work = Work(storage, connection, config, archive, now_ns, rolls)
            with told("maintain") if any(step.interval_s >= HOUR_S for step in due) else nullcontext():
                return [await _take(step, work, told) for step in due]


def pause_s(step: Step, archive: ArchiveConfig) -> float:
    """Between two successes of a step."""
    return archive.interval_hours * HOUR_S if step.name == "archive" else step.interval_s


def patience_s(step: Step, archive: ArchiveConfig, maintain_interval_s: float) -> float:
    """After so long without success a step is late."""
    return max(10 * MINUTE_S, _LATE * max(pause_s(step, archive), maintain_interval_s))


def _is_due(step: Step, state: maintenance.State | None, archive: ArchiveConfig, now_s: float) -> bool:
    interval_s = pause_s(step, archive)
    if state is None or interval_s == 0:
        return True
    if state.failing:
        return now_s - state.last_s >= min(_RETRY_S, interval_s)
    return state.last_success_s is None or now_s - state.last_success_s >= interval_s


async def _take(step: Step, work: Work, told: Told) -> Outcome:
    """One step, and its entry in the log."""
    began_s = time.time()
    try:
        with told(step.name) if step.interval_s >= HOUR_S else nullcontext():
            async with asyncio.timeout(step.box_s):
                with border(f"do the step {step.name}"):
                    report = await step.run(work)
        done = Outcome(step.name, "done" if report else "nothing", report)
    except TimeoutError:
        done = Outcome(step.name, "failed", f"not done within {step.box_s:g} s; it goes on in the next round")
    except StorageError as error:
        done = Outcome(step.name, "failed", str(error))
    except Exception as error:  # noqa: BLE001 - whatever it is, the other steps go on, and it stands in the log
        _log.exception("maintenance: %s", step.name)
        done = Outcome(step.name, "failed", type(error).__name__)
    if done.outcome != "nothing":
        _log.log(logging.INFO if done.outcome == "done" else logging.ERROR, "maintenance: %s: %s", done.step, done.report)
    await _write(work.connection, done, began_s)
    return done


async def _write(connection: Connection, done: Outcome, began_s: float) -> None:
    with border("keep the maintenance log"):
        await maintenance.log_step(connection, done.step, done.outcome, done.report, began_s)
