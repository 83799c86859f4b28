"""What happens in a simulated fab: which runs come, when, how they end; which links and hosts fail.

In: a `Fab`. Out: a `Story`, the same one for the same fab; all its times are true times, ns. Called by: `telling`, `truth`.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from wafermonitor.alerting.schedule import ticks
from wafermonitor.alerting.simulator.fab import DAY_S, START_NS, After, Fab, Host, Job
from wafermonitor.runs.state import SECOND_NS

QUIET_END_S = 3600.0
"""No outage begins in the last hour, so that what it hides comes to light before the story ends."""
SPREAD = 0.06
"""By how much (standard deviation of the logarithm) equal runs differ."""
LEAST_PAUSE_S = 1800.0
"""Between two outages of one host."""


@dataclass(slots=True)
class TrueRun:
    """One run as it really was. `end_ns` is when it ended or, where `killed`, when it was cut off without a word."""

    job: Job
    trace_id: bytes
    span_id: bytes
    run_id: str
    start_ns: int
    end_ns: int
    nominal_ns: int | None = None
    attempt: int = 1
    lot: str = ""
    result: str = "success"
    error_type: str | None = None
    killed: bool = False
    slow: bool = False
    stalled_ns: int | None = None
    deadline_ns: int | None = None

    @property
    def host(self) -> Host:
        """Where it ran."""
        return self.job.host


class Occasion(NamedTuple):
    """One run that should come, and the one that came for it (None: none ever did). Its limits in ns."""

    job: Job
    nominal_ns: int
    lot: str
    late_ns: int
    missed_ns: int
    run: TrueRun | None


class Outage(NamedTuple):
    """Nothing leaves `host` from `from_ns` to `to_ns`. `kind`: link (its own), site (all of its site), crash (it is off)."""

    host: Host
    from_ns: int
    to_ns: int
    kind: str


@dataclass(frozen=True, slots=True)
class Story:
    """All that happens, in order of time."""

    fab: Fab
    runs: Sequence[TrueRun]
    occasions: Sequence[Occasion]
    outages: Sequence[Outage]


def tell(fab: Fab, salt: str = "") -> Story:
    """The story of `fab`. `salt` goes into the ids of runs: with another one the same runs happen again, as other ones."""
    outages = list(_outages(fab))
    off = defaultdict(list)
    for outage in outages:
        if outage.kind == "crash":
            off[outage.host].append(outage)
    runs: list[TrueRun] = []
    occasions: list[Occasion] = []
    ended_well: dict[tuple[str, str], list[TrueRun]] = defaultdict(list)
    for job in fab.jobs:
        writer = _JobStory(fab, job, off[job.host], salt)
        calls = _lots_of(job, ended_well) if isinstance(job.schedule, After) else _times(fab, job)
        for number, (nominal_ns, lot) in enumerate(calls):
            occasion, come = writer.occasion(number, nominal_ns, lot)
            occasions.append(occasion)
            runs.extend(come)
            ended_well[job.key].extend(run for run in come if run.result == "success" and not run.killed)
    runs.sort(key=lambda run: run.start_ns)
    occasions.sort(key=lambda occasion: occasion.nominal_ns)
    return Story(fab, runs, occasions, outages)


def _times(fab: Fab, job: Job) -> Iterator[tuple[int, str]]:
    """(nominal time, lot) of each run that the clock calls for."""
    if isinstance(job.schedule, After):
        raise TypeError(f"{job.name} waits for another job")
    for number, nominal_ns in enumerate(ticks(job.schedule, START_NS, fab.end_ns)):
        yield nominal_ns, f"L{job.host.name}{job.name[:3]}{number:05d}" if job.lots else ""


def _lots_of(job: Job, ended_well: dict[tuple[str, str], list[TrueRun]]) -> Iterator[tuple[int, str]]:
    """(end, lot) of each run of the job before it that ended well; a lot calls once."""
    if not isinstance(job.schedule, After):
        raise TypeError(f"{job.name} follows the clock")
    seen = set()
    for run in sorted(ended_well[job.site, job.schedule.job], key=lambda run: run.end_ns):
        if run.lot and run.lot not in seen:
            seen.add(run.lot)
            yield run.end_ns, run.lot


def past(fab: Fab, days: float, count: int) -> Iterator[TrueRun]:
    """Before the story: `count` good runs of each job over the last `days`, from which what is usual may be learned."""
    for job in fab.jobs:
        random = Random(f"past {fab.seed} {job.host.site} {job.name}")  # noqa: S311 - repeatable, no secret
        for number in range(1, count + 1):
            start_ns = START_NS - round(number / count * days * DAY_S * SECOND_NS)
            duration_s = usual_s(job, start_ns) * math.exp(random.gauss(0.0, SPREAD))
            end_ns = min(start_ns + round(duration_s * SECOND_NS), START_NS - SECOND_NS)
            seed = hashlib.sha256(f"{fab.seed} {job.site} {job.name} past {number}".encode()).digest()
            yield TrueRun(job, seed[:16], seed[16:24], f"{job.name}-past-{number:05d}", start_ns, end_ns)


class _JobStory:
    """Makes the runs of one job."""

    def __init__(self, fab: Fab, job: Job, off: Sequence[Outage], salt: str) -> None:
        self._fab = fab
        self._job = job
        self._off = off
        self._salt = salt
        self._random = Random(f"story {fab.seed} {job.host.site} {job.name}")  # noqa: S311 - repeatable, no secret

    def occasion(self, number: int, nominal_ns: int, lot: str) -> tuple[Occasion, list[TrueRun]]:
        """What should come at `nominal_ns`, and what did."""
        job = self._job
        within_s = job.schedule.within_s if isinstance(job.schedule, After) else job.start_margin_s
        late_ns = nominal_ns + round(within_s * SECOND_NS)
        missed_ns = late_ns + round(job.grace_s * SECOND_NS)
        start_ns = self._start(nominal_ns, late_ns, missed_ns)
        if start_ns is None or self._is_off(start_ns):
            return Occasion(job, nominal_ns, lot, late_ns, missed_ns, None), []
        first = self._run(number, 1, start_ns, nominal_ns, lot)
        come = [first]
        again_ns = first.end_ns + 20 * SECOND_NS
        if not first.killed and first.result == "failure" and self._random.random() < 0.6 and not self._is_off(again_ns):  # noqa: PLR2004
            come.append(self._run(number, 2, again_ns, nominal_ns, lot))
        # Nothing that came to nothing was ever heard of: a run that announces nothing and is cut off left no trace.
        heard = [run for run in come if job.interval_s is not None or not run.killed]
        return Occasion(job, nominal_ns, lot, late_ns, missed_ns, heard[0] if heard else None), heard

    def _start(self, nominal_ns: int, late_ns: int, missed_ns: int) -> int | None:
        """When it starts, None for never. Usually at once, a few seconds before or after."""
        random, size, job = self._random, self._fab.size, self._job
        chance = random.random()
        if chance < size.never:
            return None
        if chance < size.never + size.late:
            return random.randrange(late_ns + SECOND_NS, missed_ns)
        if chance < size.never + size.late + size.very_late and not isinstance(job.schedule, After):
            # Before the next occasion opens, so that it is plain which of the two it is.
            return missed_ns + random.randrange(1, 60) * SECOND_NS
        if isinstance(job.schedule, After):
            return nominal_ns + round(random.uniform(1, 0.8 * job.schedule.within_s) * SECOND_NS)
        return nominal_ns + round(min(random.expovariate(1 / 4.0) - 2.0, job.start_margin_s - 5) * SECOND_NS)

    def _run(self, number: int, attempt: int, start_ns: int, nominal_ns: int, lot: str) -> TrueRun:
        random, size, job = self._random, self._fab.size, self._job
        slow = random.random() < size.slow
        duration_s = usual_s(job, start_ns) * math.exp(random.gauss(0.0, SPREAD)) * (random.uniform(2.0, 3.0) if slow else 1.0)
        chance = random.random()
        killed = chance < size.killed
        failed = not killed and attempt == 1 and chance < size.killed + size.failed
        end_ns = start_ns + round(duration_s * (random.random() if killed or failed else 1.0) * SECOND_NS)
        stalled_ns = None
        if job.interval_s is not None and not killed and not failed and random.random() < size.stalled:
            stalled_ns = (start_ns + end_ns) // 2
            end_ns += 1800 * SECOND_NS
        for outage in self._off:
            if start_ns <= outage.from_ns < end_ns:
                end_ns, killed, failed = outage.from_ns, True, False
        seed = hashlib.sha256(f"{self._fab.seed}{self._salt} {job.site} {job.name} {number} {attempt} {lot}".encode()).digest()
        return TrueRun(
            job=job,
            trace_id=seed[:16],
            span_id=seed[16:24],
            run_id=f"{job.name}-{number:05d}",
            start_ns=start_ns,
            end_ns=end_ns,
            nominal_ns=nominal_ns if job.nominal else None,
            attempt=attempt,
            lot=lot,
            result="failure" if failed else "success",
            error_type="ToolError" if failed else None,
            killed=killed,
            slow=slow and not killed and not failed,
            stalled_ns=stalled_ns,
        )

    def _is_off(self, at_ns: int) -> bool:
        return any(outage.from_ns <= at_ns < outage.to_ns for outage in self._off)


def usual_s(job: Job, start_ns: int) -> float:
    """How long a run that starts then usually takes: longest at 14:00 UTC, a little more every day."""
    days = (start_ns - START_NS) / SECOND_NS / DAY_S
    hour = start_ns / SECOND_NS / 3600 % 24
    return (
        job.typical_s
        * (1 + job.season * 0.5 * (1 + math.cos((hour - 14) / 24 * 2 * math.pi)))
        * max(0.2, 1 + job.growth * days)
    )


def _outages(fab: Fab) -> Iterator[Outage]:
    """Single links, whole sites, hosts that go down; from half a minute to hours, no two of one host close together."""
    random = Random(f"outages {fab.seed}")  # noqa: S311 - repeatable, no secret
    begin_ns, end_ns = START_NS + 900 * SECOND_NS, fab.end_ns - round(QUIET_END_S * SECOND_NS)
    taken: dict[Host, list[tuple[int, int]]] = defaultdict(list)
    by_site: dict[str, list[Host]] = defaultdict(list)
    for host in fab.hosts:
        by_site[host.site].append(host)
    wanted = math.ceil(len(fab.hosts) * fab.size.days * fab.size.outages)
    pause_ns = round(LEAST_PAUSE_S * SECOND_NS)
    found: list[Outage] = []
    for _ in range(wanted * 20):
        if len(found) >= wanted or end_ns <= begin_ns:
            break
        kind = random.choices(("link", "site", "crash"), (8, 1, 1))[0]
        one = random.choice(fab.hosts)
        hosts = by_site[one.site] if kind == "site" else [one]
        length_s = min(math.exp(random.uniform(math.log(30), math.log(7200))), (end_ns - begin_ns) / SECOND_NS / 4)
        from_ns = random.randrange(begin_ns, end_ns)
        to_ns = min(from_ns + round(length_s * SECOND_NS), end_ns)
        if any(from_ns < b + pause_ns and a - pause_ns < to_ns for host in hosts for a, b in taken[host]):
            continue
        for host in hosts:
            taken[host].append((from_ns, to_ns))
            found.append(Outage(host, from_ns, to_ns, kind))
    yield from sorted(found, key=lambda outage: (outage.from_ns, outage.host.site, outage.host.name))
