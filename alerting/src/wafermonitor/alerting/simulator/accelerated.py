"""A story played to a store in accelerated time, with evaluators that watch it and die at random.

In: a `Story`, a store whose clock is the given one, a way to make an evaluator. Out: what was heard, and when it was looked.
Called by: tests, benchmarks.

At each tick everything that arrived until then is written, then evaluators look. Now and then one is replaced by a new one, two
look at once, one looks twice, one dies in the middle of storing what it found (before it is stored, or after), or none looks
for a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from wafermonitor.alerting.errors import AlertingUnavailable
from wafermonitor.alerting.expecting import After as WishAfter
from wafermonitor.alerting.expecting import Wish, dumps
from wafermonitor.alerting.simulator.batches import batch
from wafermonitor.alerting.simulator.fab import START_NS, After, Fab, Job
from wafermonitor.alerting.simulator.story import Story, past
from wafermonitor.alerting.simulator.telling import SPAN, Arrival, Message, arrivals
from wafermonitor.alerting.simulator.truth import Heard
from wafermonitor.runs import lifecycle
from wafermonitor.runs.alerts import Expectation, Origin
from wafermonitor.runs.state import SECOND_NS, Limits
from wafermonitor.storage.errors import StorageUnavailable
from wafermonitor.storage.protocol import Storage
from wafermonitor.storage.watch import Lead, Outcome, Watch

Tick = Callable[[], Awaitable[object]]
"""One look of one evaluator."""

PAST_DAYS, PAST_RUNS = 3.0, 72
"""What the store knows of each job when the story begins."""


class Clock:
    """Now, in ns, as the story has it."""

    def __init__(self, now_ns: int = START_NS) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        """Now."""
        return self.now_ns


class Trouble(NamedTuple):
    """How often (ratios of all ticks) what happens to evaluators. `away_ticks`: how long none looks when none does."""

    renewed: float = 0.01
    together: float = 0.02
    twice: float = 0.01
    torn: float = 0.01
    away: float = 0.0005
    away_ticks: int = 40


@dataclass(slots=True)
class Played:
    """What was heard, the ticks at which an evaluator looked to the end, and what happened to evaluators."""

    heard: Heard
    looked_ns: list[int] = field(default_factory=list)
    renewed: int = 0
    torn: int = 0
    together: int = 0
    away: int = 0


async def play(
    story: Story,
    storage: Storage,
    clock: Clock,
    evaluator: Callable[[Storage], Tick],
    *,
    limits: Limits,
    trouble: Trouble | None = None,
    tick_s: float = 15.0,
    told: Callable[[int], None] = lambda _now_ns: None,
) -> Played:
    """Play all of it; `told` is called with the time of each tick. The expectations of the fab's jobs are declared first."""
    if storage.watch is None:
        raise ValueError("this store keeps no alerts")
    for run in past(story.fab, PAST_DAYS, PAST_RUNS):
        known = [Message(run.start_ns, run.host, lifecycle.START, run)] if run.job.interval_s is not None else []
        known.append(Message(run.end_ns, run.host, SPAN, run))
        await storage.writer.write([batch(Arrival(one.at_ns + SECOND_NS, one) for one in known)])
    await storage.watch.declare(expectations(story.fab), clock())
    played = Played(Heard(limits))
    stage = _Stage(story.fab.seed, Shown(storage, clock), evaluator, trouble or Trouble(), played)
    step_ns = round(tick_s * SECOND_NS)
    coming = arrivals(story)
    held: Arrival | None = next(coming, None)
    for now_ns in range(START_NS + step_ns, story.fab.end_ns, step_ns):
        arrived = []
        while held is not None and held.received_ns <= now_ns:
            arrived.append(held)
            held = next(coming, None)
        clock.now_ns = now_ns
        played.heard.add(arrived)
        if arrived:
            await storage.writer.write([batch(arrived)])
        await stage.look()
        told(now_ns)
    return played


def expectations(fab: Fab) -> list[Expectation]:
    """What is declared of the jobs of `fab`."""
    return [_expectation(job) for job in fab.jobs]


def _expectation(job: Job) -> Expectation:
    schedule = WishAfter(job.schedule.job, job.schedule.within_s) if isinstance(job.schedule, After) else job.schedule
    wish = Wish(schedule, start_margin_s=job.start_margin_s, grace_s=job.grace_s, max_duration_s=job.longest_s)
    return Expectation(f"{job.site}/{job.name}", job.site, job.name, Origin.DECLARED, dumps(wish), START_NS, START_NS, START_NS)


class _Stage:
    """Evaluators and what happens to them."""

    def __init__(self, seed: int, store: Shown, evaluator: Callable[[Storage], Tick], trouble: Trouble, played: Played) -> None:
        self._random = Random(f"evaluators {seed}")  # noqa: S311 - repeatable, no secret
        self._played = played
        self._store = store
        self._make = evaluator
        self._trouble = trouble
        self._one, self._other = evaluator(store), evaluator(store)
        self._away = 0

    async def look(self) -> None:
        """One tick."""
        random, trouble, played = self._random, self._trouble, self._played
        if self._away or random.random() < trouble.away:
            self._away = self._away - 1 if self._away else trouble.away_ticks
            played.away += 1
            return
        if random.random() < trouble.renewed:
            self._one, self._other = self._other, self._make(self._store)
            played.renewed += 1
        if random.random() < trouble.torn:
            self._store.tear = random.choice(("before", "after"))
            played.torn += 1
        together = random.random() < trouble.together
        played.together += together
        looks = [self._one, self._other] if together else [self._one]
        looks += [self._one] if random.random() < trouble.twice else []
        answers = await asyncio.gather(*(look() for look in looks), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, StorageUnavailable | AlertingUnavailable):
                raise answer
        if self._store.stored_ns == self._store.clock():
            played.looked_ns.append(self._store.clock())
        elif self._store.tear is None and not any(isinstance(answer, BaseException) for answer in answers):
            raise AssertionError("an evaluator looked and stored nothing")
        if self._store.tear is not None or self._store.torn:
            # Whoever died is not there any more.
            self._store.tear, self._store.torn = None, False
            self._one, self._other = self._other, self._make(self._store)


class Shown:
    """A store as evaluators see it: its leader's now is the story's, and what it stores may be torn.

    `tear`: `before` or `after` it is stored, the evaluator dies once. `stored_ns`: the last tick that was stored.
    """

    def __init__(self, storage: Storage, clock: Clock) -> None:
        if storage.watch is None:
            raise ValueError("this store keeps no alerts")
        self.writer = storage.writer
        self.reader = storage.reader
        self.tear: str | None = None
        self.torn = False
        self.stored_ns: int | None = None
        self.clock = clock
        self.watch: Watch = _Watched(storage.watch, self, clock)  # type: ignore[assignment]  # the rest is the store's own

    async def close(self) -> None:
        """The store is closed by whoever opened it."""


class _Watched:
    """All of a watch but the lead."""

    def __init__(self, watch: Watch, shown: Shown, clock: Clock) -> None:
        self._watch = watch
        self._shown = shown
        self._clock = clock

    def __getattr__(self, name: str) -> object:
        return getattr(self._watch, name)

    def lead(self) -> AbstractAsyncContextManager[Lead | None]:
        """As the store's, by the story's clock."""
        return self._lead()

    @asynccontextmanager
    async def _lead(self) -> AsyncIterator[Lead | None]:
        async with self._watch.lead() as lead:
            yield None if lead is None else _Leading(lead, self._shown, self._clock())  # type: ignore[misc]  # as above


class _Leading:
    """All of a lead, but its now is the story's and what it stores may be torn."""

    def __init__(self, lead: Lead, shown: Shown, now_ns: int) -> None:
        self._lead = lead
        self._shown = shown
        self.now_ns = now_ns

    def __getattr__(self, name: str) -> object:
        return getattr(self._lead, name)

    async def store(self, outcome: Outcome) -> None:
        """Store it, unless the evaluator dies before."""
        tear, self._shown.tear = self._shown.tear, None
        if tear is not None:
            self._shown.torn = True
        if tear == "before":
            raise StorageUnavailable("the evaluator died before its outcome was stored")
        await self._lead.store(outcome)
        self._shown.stored_ns = self.now_ns
        if tear == "after":
            raise StorageUnavailable("the evaluator died after its outcome was stored")
