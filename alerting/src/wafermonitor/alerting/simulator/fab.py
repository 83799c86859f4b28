"""What a simulated fab consists of: sites, hosts with one Collector each, and jobs with their schedules and habits.

In: a seed and a `Size`. Out: a `Fab`, the same one for the same seed. Called by: `story`, `command`, tests, benchmarks.
"""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from wafermonitor.alerting.schedule import Cron, Every
from wafermonitor.runs.state import SECOND_NS

DAY_S = 86_400.0
START_NS = 1_792_864_800 * SECOND_NS
"""2026-10-24T18:00Z, seven hours before Europe's clocks go back."""
MOST_OFF_S = 2.0
"""By how much the clock of a host is off that follows a time server."""
BEAT_S = 10.0
"""Pause between two beats of a feed."""


class Host(NamedTuple):
    """A machine with one Collector, which is one feed. Its clock is `lead_s` ahead and runs `drift_ppm` too fast.

    `logs_per_s` and `traces_per_s`: how fast its two queues drain; they differ, so an outage reorders what it delays.
    """

    site: str
    name: str
    lead_s: float = 0.0
    drift_ppm: float = 0.0
    logs_per_s: float = 400.0
    traces_per_s: float = 400.0

    def clock_ns(self, at_ns: int) -> int:
        """What its clock shows at true time `at_ns`."""
        return at_ns + round(self.lead_s * SECOND_NS + self.drift_ppm * 1e-6 * (at_ns - START_NS))


class After(NamedTuple):
    """One run for each lot within `within_s` after `job` at the same site has ended well with it."""

    job: str
    within_s: float


class Job(NamedTuple):
    """A kind of run on one host, and what it is like.

    `interval_s` None: it announces nothing, only its span arrives, at its end. `nominal`: it says for when it was scheduled.
    `longest_s`: what its expectation says that a run may take. `lead_s`: its own clock's lead over its host's. `season`: by how
    much (ratio) it takes longer in the busiest hour of the day, `growth`: by how much longer each day.
    """

    host: Host
    name: str
    schedule: Cron | Every | After
    typical_s: float
    expected_s: float | None
    start_margin_s: float
    grace_s: float
    interval_s: float | None = 30.0
    nominal: bool = False
    lots: bool = False
    lead_s: float = 0.0
    season: float = 0.0
    growth: float = 0.0
    longest_s: float | None = None
    memory_bytes: int = 400_000_000

    @property
    def site(self) -> str:
        """The site of its host."""
        return self.host.site

    @property
    def key(self) -> tuple[str, str]:
        """(site, job)."""
        return self.host.site, self.name


class Size(NamedTuple):
    """How large, how long, and how often things go wrong (ratios of all runs; outages for each host and day).

    `lead_s`: how far the clock of the first host is ahead; `own_lead_s`: the own clock of the first job of every other host.
    """

    sites: int = 5
    hosts: int = 4
    jobs: int = 5
    days: float = 1.0
    outages: float = 3.0
    never: float = 0.01
    late: float = 0.01
    very_late: float = 0.005
    killed: float = 0.01
    failed: float = 0.02
    slow: float = 0.003
    stalled: float = 0.001
    lead_s: float = 0.0
    own_lead_s: float = 0.0

    @property
    def duration_ns(self) -> int:
        """Its length, ns."""
        return round(self.days * DAY_S) * SECOND_NS


class Fab(NamedTuple):
    """Hosts and jobs."""

    seed: int
    size: Size
    hosts: tuple[Host, ...]
    jobs: tuple[Job, ...]

    @property
    def end_ns(self) -> int:
        """When its story ends."""
        return START_NS + self.size.duration_ns


NAMES = ("lot_yield", "spc_check", "wafer_map", "recipe_sync", "defect_review", "metrology_fit", "fdc_model", "wip_report")
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Taipei")


def build(seed: int, size: Size) -> Fab:
    """The fab of `seed`."""
    random = Random(f"fab {seed}")  # noqa: S311 - repeatable, no secret
    hosts = [_host(random, site, number, size) for site in range(size.sites) for number in range(size.hosts)]
    jobs = [job for host in hosts for job in _jobs(random, host, size)]
    return Fab(seed, size, tuple(hosts), tuple(jobs))


def _host(random: Random, site: int, number: int, size: Size) -> Host:
    slow_traces = random.random() < 0.5  # noqa: PLR2004 - every second
    first = site == 0 and number == 0
    return Host(
        site=f"fab{site + 1}",
        name=f"host{site + 1}{number + 1:02d}",
        lead_s=size.lead_s if first else random.uniform(-MOST_OFF_S, MOST_OFF_S),
        drift_ppm=random.choice((0.0, 20.0, -20.0, 100.0)),
        logs_per_s=random.choice((3.0, 20.0, 400.0)),
        traces_per_s=0.3 if slow_traces else 50.0,
    )


def _jobs(random: Random, host: Host, size: Size) -> list[Job]:
    jobs: list[Job] = []
    for number in range(size.jobs):
        period_s = random.choice((600, 900, 900, 1200, 1800))
        name = f"{NAMES[number % len(NAMES)]}_{host.name[4:]}"
        typical_s = period_s * random.uniform(0.15, 0.4)
        follows = number > 0 and number % 4 == 3 and jobs[number - 1].lots  # noqa: PLR2004 - the fourth of each host
        schedule: Cron | Every | After
        if follows:
            schedule = After(jobs[number - 1].name, random.choice((600.0, 1800.0)))
        elif number % 2:
            schedule = Every(period_s, START_NS - random.randrange(period_s) * SECOND_NS)
        else:
            schedule = Cron(f"*/{period_s // 60} * * * *", random.choice(ZONES))
        quiet = number % 5 == 4  # noqa: PLR2004 - one of five
        jobs.append(
            Job(
                host=host,
                name=name,
                schedule=schedule,
                typical_s=typical_s,
                expected_s=typical_s * 2.5 if random.random() < 0.5 else None,  # noqa: PLR2004 - every second
                start_margin_s=random.choice((60.0, 90.0)),
                grace_s=random.choice((120.0, 240.0)),
                interval_s=None if quiet else 30.0,
                longest_s=5 * typical_s if quiet and random.random() < 0.5 else None,  # noqa: PLR2004 - every second
                nominal=random.random() < 0.4,  # noqa: PLR2004 - two of five
                lots=number % 4 == 2 or follows,  # noqa: PLR2004 - the third of each host
                lead_s=size.own_lead_s if number == 0 and abs(host.lead_s) < MOST_OFF_S + 1 else 0.0,
                season=random.choice((0.0, 0.2, 0.4)),
                growth=random.choice((0.0, 0.0, 0.01)),
            )
        )
    return jobs
