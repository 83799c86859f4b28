"""What hosts and runs say, and when it arrives: the messages of a story, through queues that outages stop.

In: a `Story`. Out: `Arrival`s in order of their arrival; true times, ns. Called by: `accelerated`, tests.

A host has one queue for logs (lifecycle events and the beats of its feed) and one for traces (final spans). Each is served in
order at its own speed and stands still during an outage and for a while after it, as an exporter does that waits longer after
each failed attempt. Some messages arrive twice.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from random import Random
from typing import NamedTuple

from wafermonitor.alerting.simulator.fab import BEAT_S, START_NS, Fab, Host
from wafermonitor.alerting.simulator.story import Outage, Story, TrueRun
from wafermonitor.runs import lifecycle
from wafermonitor.runs.state import SECOND_NS

SPAN = "span"
"""The final span; every other message is a log record by the name of its event."""
LONGEST_BACKOFF_S = 30.0
TWICE = 0.002


class Message(NamedTuple):
    """`host` says at `at_ns` (true time) `event` about `run`, which has done `ratio` of its work; a feed's beat has no run."""

    at_ns: int
    host: Host
    event: str
    run: TrueRun | None = None
    ratio: float | None = None

    @property
    def stamp_ns(self) -> int:
        """The time that it bears: by the clock of the host, and of the application where it has its own."""
        lead_s = 0.0 if self.run is None else self.run.job.lead_s
        return self.host.clock_ns(self.at_ns) + round(lead_s * SECOND_NS)


class Arrival(NamedTuple):
    """A message when it reaches the receiver."""

    received_ns: int
    message: Message


def arrivals(story: Story) -> Iterator[Arrival]:
    """Everything that is heard of `story`."""
    runs: dict[Host, list[TrueRun]] = defaultdict(list)
    outages: dict[Host, list[Outage]] = defaultdict(list)
    for run in story.runs:
        runs[run.host].append(run)
    for outage in story.outages:
        outages[outage.host].append(outage)
    queues = []
    for host in story.fab.hosts:
        for traces in (False, True):
            said = heapq.merge(*_said(story.fab, host, runs[host], outages[host], traces=traces), key=attrgetter("at_ns"))
            per_s = host.traces_per_s if traces else host.logs_per_s
            random = Random(f"queue {story.fab.seed} {host.name} {traces}")  # noqa: S311 - repeatable, no secret
            queues.append(served(said, outages[host], per_s, random))
    return heapq.merge(*queues, key=attrgetter("received_ns"))


def served(said: Iterable[Message], outages: Sequence[Outage], per_s: float, random: Random) -> Iterator[Arrival]:
    """The messages of one queue in order, each after the one before it and after the outage it meets."""
    stops = [(one.from_ns, one.to_ns + round(random.uniform(0, LONGEST_BACKOFF_S) * SECOND_NS)) for one in outages]
    service_ns = round(SECOND_NS / per_s)
    free_ns = 0
    for message in said:
        begin_ns = max(message.at_ns + random.randrange(5_000_000, 400_000_000), free_ns)
        while stops and stops[0][1] <= begin_ns:
            stops.pop(0)
        if stops and stops[0][0] <= begin_ns + service_ns:
            begin_ns = max(begin_ns, stops[0][1])
        free_ns = begin_ns + service_ns
        yield Arrival(free_ns, message)
        if random.random() < TWICE:
            free_ns += service_ns
            yield Arrival(free_ns, message)


def _said(
    fab: Fab, host: Host, runs: Sequence[TrueRun], outages: Sequence[Outage], *, traces: bool
) -> Iterator[Iterator[Message]]:
    if traces:
        yield iter(sorted((Message(run.end_ns, host, SPAN, run) for run in runs if not run.killed), key=attrgetter("at_ns")))
        return
    yield beats(fab, host, outages)
    yield from (said_by(run) for run in runs if run.job.interval_s is not None)


def beats(fab: Fab, host: Host, outages: Sequence[Outage]) -> Iterator[Message]:
    """The beats of one feed; a host that is off has none."""
    off = [(one.from_ns, one.to_ns) for one in outages if one.kind == "crash"]
    phase_ns = Random(f"beat {host.name}").randrange(round(BEAT_S * SECOND_NS))  # noqa: S311 - repeatable, no secret
    for at_ns in range(START_NS + phase_ns, fab.end_ns, round(BEAT_S * SECOND_NS)):
        if not any(a <= at_ns < b for a, b in off):
            yield Message(at_ns, host, lifecycle.FEED_BEAT)


def said_by(run: TrueRun) -> Iterator[Message]:
    """What a run says that announces itself: its start, a heartbeat with progress each interval, its end unless killed."""
    if run.job.interval_s is None:
        return
    yield Message(run.start_ns, run.host, lifecycle.START, run)
    step_ns = round(run.job.interval_s * SECOND_NS)
    length_ns = max(1, run.end_ns - run.start_ns)
    for at_ns in range(run.start_ns + step_ns, run.end_ns, step_ns):
        done_ns = at_ns if run.stalled_ns is None else min(at_ns, run.stalled_ns)
        yield Message(at_ns, run.host, lifecycle.HEARTBEAT, run, (done_ns - run.start_ns) / length_ns)
    if not run.killed:
        yield Message(run.end_ns, run.host, lifecycle.END, run)
