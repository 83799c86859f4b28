"""Write runs at one end, read them back at the other, and say what is missing or different.

In: a way to write a run as jobs do (`write`), a client of the read API. Out: a `Report`; `Measures` are told of each round.
Called by: `wafer canary`.

Each round writes one run with one subjob and asks for it by id, by search and by the stream until it is as it was written, and
for one of the earlier runs, because what was there may be lost later. What is not right `within_s` seconds after it was
written is a problem. After the idea of Grafana Tempo's vulture.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

from wafermonitor.deploy.measures import Measures
from wafermonitor.query.client import AsyncClient
from wafermonitor.query.errors import QueryError
from wafermonitor.query.models import RunModel
from wafermonitor.semconv import attributes as names

JOB: Final = "wafer_canary"
STEP: Final = "wafer_canary_step"
TEXT: Final = 'Größe 晶圓 "quoted" \\ 🙂'
POLL_S: Final = 0.05
REMEMBERED: Final = 1000
"""Runs that may be asked for again, and problems that are told at the end."""
CHECKS: Final = ("id", "search", "stream", "kept")
Check = Literal["id", "search", "stream", "kept"]
Look = Callable[[], Awaitable[list[str]]]


class Written(NamedTuple):
    """A run that was written: the {run} of itself and of its subjob, its label, its number, and when (monotonic s)."""

    run: str
    step: str
    label: str
    number: int
    at_s: float


class Problem(NamedTuple):
    """What a check did not find, or found different."""

    run: str
    check: Check
    text: str


class Plan(NamedTuple):
    """`rounds` or `for_s` end it, whichever comes first; without both it goes on. Pauses and waits in seconds."""

    rounds: int | None
    for_s: float | None
    every_s: float
    within_s: float


def write(number: int) -> Written:
    """One run with one subjob, by the instrumentation, to where jobs of this host report; returns when it was handed over."""
    import wafermonitor.instrumentation as wafer

    label = f"canary-{uuid.uuid4().hex}"
    described = {argument: expected(label)[name] for name, argument in _SAID.items()}
    run = wafer.job(JOB, run_id=label, params={"number": number, "text": TEXT}, **described)
    with run:
        with wafer.subjob(STEP, run_id=f"{label}-step") as step:
            run.progress(1, 2, unit="step")
        run.progress(2, 2, unit="step")
    wafer.flush()
    return Written(run.id, step.id, label, number, time.monotonic())


_SAID: Final = {
    "trigger": "trigger",
    "owner": "owner",
    "equipment": "equipment_id",
    "recipe": "recipe_name",
    "product": "product_id",
    "lot_ids": "lot_ids",
    "substrate_ids": "substrate_ids",
}
"""Field of the API's run → what `wafer.job` calls it."""


def expected(label: str) -> dict[str, Any]:
    """What the API must say of the run with that label."""
    return {
        "job": JOB,
        "run_id": label,
        "state": "ended",
        "result": "success",
        "trigger": "schedule",
        "owner": "canary",
        "equipment": f"{label}-tool",
        "recipe": "read back",
        "product": "canary",
        "lot_ids": [f"{label}-lot"],
        "substrate_ids": [f"{label}-01", f"{label}-02"],
    }


def differences(written: Written, found: RunModel) -> list[str]:
    """Where the API's run is not what was written."""
    wanted = expected(written.label) | {"run": written.run}
    shown = [
        f"{name} is {getattr(found, name)!r}, not {value!r}" for name, value in wanted.items() if getattr(found, name) != value
    ]
    for name, value in {f"{names.WAFER_PARAM}.number": written.number, f"{names.WAFER_PARAM}.text": TEXT}.items():
        if found.attributes.get(name) != value:
            shown.append(f"{name} is {found.attributes.get(name)!r}, not {value!r}")
    if found.progress is None or found.progress.completed != found.progress.total:
        shown.append("its progress is not complete")
    return shown


@dataclass
class Report:
    """What came of it. `problems` holds the last ones; `visible_s` how long runs took to be found whole by id."""

    rounds: int = 0
    found: int = 0
    missing: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CHECKS, 0))
    problems: deque[Problem] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    visible_s: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    @property
    def ok(self) -> bool:
        """At least one run was written, and everything was found."""
        return self.rounds > 0 and not any(self.missing.values())

    def summary(self) -> dict[str, Any]:
        """As one JSON object."""
        seen = sorted(self.visible_s)
        return {
            "ok": self.ok,
            "rounds": self.rounds,
            "found": self.found,
            "missing": self.missing,
            "visible_median_s": round(statistics.median(seen), 3) if seen else None,
            "visible_worst_s": round(seen[-1], 3) if seen else None,
            "problems": [problem._asdict() for problem in self.problems],
        }


class Canary:
    """One canary on one read API."""

    def __init__(self, client: AsyncClient, writes: Callable[[int], Written], measures: Measures, report: Report) -> None:
        self.report = report
        self._client = client
        self._writes = writes
        self._measures = measures
        self._earlier: deque[Written] = deque(maxlen=REMEMBERED)
        self._listening = asyncio.Event()
        self._told: dict[str, RunModel] = {}

    async def watch(self, plan: Plan, tell: Callable[[Problem], None]) -> None:
        """Rounds until the plan is done; `tell` hears of each problem at once."""
        listener = asyncio.create_task(self._listen(), name="canary-stream")
        end_s = None if plan.for_s is None else time.monotonic() + plan.for_s
        try:
            with suppress(TimeoutError):  # a stream that does not begin is a problem of each round
                await asyncio.wait_for(self._listening.wait(), plan.within_s)
            while self.report.rounds != plan.rounds and (end_s is None or time.monotonic() < end_s):
                began_s = time.monotonic()
                for problem in await self._round(plan.within_s):
                    tell(problem)
                last = self.report.rounds == plan.rounds
                await asyncio.sleep(0 if last else max(began_s + plan.every_s - time.monotonic(), 0))
        finally:
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)

    async def _round(self, within_s: float) -> list[Problem]:
        written = await asyncio.to_thread(self._writes, self.report.rounds + 1)
        looks: dict[Check, tuple[Written, Look]] = {
            "id": (written, lambda: self._by_id(written)),
            "search": (written, lambda: self._by_search(written)),
            "stream": (written, lambda: self._by_stream(written)),
        }
        if self._earlier:
            earlier = random.choice(self._earlier)  # noqa: S311 - picks a run, guards nothing
            looks["kept"] = (earlier, lambda: self._by_id(earlier))
        end_s = written.at_s + within_s
        found = await asyncio.gather(*(self._settled(check, look, end_s) for check, (_, look) in looks.items()))
        problems = [
            Problem(which.run, check, "; ".join(texts))
            for (check, (which, _)), texts in zip(looks.items(), found, strict=True)
            if texts
        ]
        self._count(problems)
        if not any(problem.check == "id" for problem in problems):
            self._earlier.append(written)
        self._told.pop(written.run, None)
        return problems

    async def _settled(self, check: Check, look: Look, end_s: float) -> list[str]:
        """What is wrong when it is looked for again and again until nothing is, or the time is over."""
        began_s = time.monotonic()
        while True:
            try:
                problems = await look()
            except QueryError as error:
                problems = [str(error)]
            if not problems and check == "id":
                self._visible(time.monotonic() - began_s)
            if not problems or time.monotonic() > end_s:
                return problems
            await asyncio.sleep(POLL_S)

    def _visible(self, took_s: float) -> None:
        self.report.visible_s.append(took_s)
        self._measures.visible(took_s)

    def _count(self, problems: list[Problem]) -> None:
        self.report.rounds += 1
        self.report.found += not problems
        self.report.problems += problems
        for problem in problems:
            self.report.missing[problem.check] += 1
        self._measures.round(problem.check for problem in problems)

    async def _by_id(self, written: Written) -> list[str]:
        detail = await self._client.run(written.run)
        problems = differences(written, detail)
        if detail.completeness is None or detail.completeness.verdict != "complete":
            problems.append(f"it is {detail.completeness.words if detail.completeness else 'a plain span'}")
        spans = {span.run for span in (await self._client.spans(written.run)).items}
        problems += [f"the span {run} is missing" for run in (written.run, written.step) if run not in spans]
        return problems

    async def _by_search(self, written: Written) -> list[str]:
        questions = {
            "run_id": self._client.jobs(run_id=written.label),
            "lot": self._client.jobs(job=JOB, lot=expected(written.label)["lot_ids"]),
            "equipment and state": self._client.jobs(equipment=expected(written.label)["equipment"], state="ended"),
            "subjobs by run_id": self._client.subjobs(run_id=f"{written.label}-step"),
        }
        wanted = dict.fromkeys(questions, written.run) | {"subjobs by run_id": written.step}
        pages = await asyncio.gather(*questions.values())
        found = {name: [item.run for item in page.items] for name, page in zip(questions, pages, strict=True)}
        return [f"searched by {name}: {runs or 'nothing'}" for name, runs in found.items() if runs != [wanted[name]]]

    async def _by_stream(self, written: Written) -> list[str]:
        told = self._told.get(written.run)
        return ["the stream has not told of it"] if told is None else differences(written, told)

    async def _listen(self) -> None:
        async for event in self._client.stream(job=JOB):
            self._listening.set()
            if event.run is not None and event.run.job == JOB:
                self._told[event.run.run] = event.run
                if len(self._told) > REMEMBERED:
                    self._told.pop(next(iter(self._told)))
