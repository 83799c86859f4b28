"""When it can be known what went wrong: the ideal observer, who knows the story and what of it has arrived, and nothing else.

In: a `Story` and the times at which its messages arrived. Out: `Fact`s: what must be told, and from when on that can be known.
Called by: `score`. It uses nothing of what it judges: no state function, no watermark of the store, no clock of a host.

An absence is known when the feed has told of a time `margin_s` after it; a feed's silence when it is behind by more than a
beat of a well one ever is.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import NamedTuple

from wafermonitor.alerting.simulator.fab import After, Host, Job
from wafermonitor.alerting.simulator.story import Occasion, Outage, Story, TrueRun
from wafermonitor.alerting.simulator.telling import SPAN, Arrival
from wafermonitor.runs import lifecycle
from wafermonitor.runs.state import SECOND_NS, Limits

NEVER = 1 << 62


class What(StrEnum):
    """What a person wants to be told."""

    LATE = "late"
    MISSED = "missed"
    SILENT = "silent"
    LOST = "lost"
    OVERDUE = "overdue"


class Fact(NamedTuple):
    """It is so from `known_ns` on, for whoever has heard what had arrived; told later than that, it is told too late.

    `until_ns`: from then on it is not so any more (the run came, or ended); a fact shorter than a tick need not be told.
    """

    what: What
    thing: Occasion | TrueRun
    known_ns: int
    until_ns: int = NEVER


class Heard:
    """What has arrived, and when: fed one arrival after the other, asked when the story is over."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._beats: dict[Host, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
        self._starts: dict[bytes, int] = {}
        self._ends: dict[bytes, int] = {}
        self._signs: dict[bytes, int] = {}

    def add(self, arrivals: Iterable[Arrival]) -> None:
        """Take note of what arrived, in order."""
        for received_ns, message in arrivals:
            run = message.run
            if run is None:
                said, received = self._beats[message.host]
                if not said or message.at_ns > said[-1]:
                    said.append(message.at_ns)
                    received.append(received_ns)
                continue
            self._starts.setdefault(run.span_id, received_ns)
            self._signs[run.span_id] = max(message.at_ns, self._signs.get(run.span_id, 0))
            if message.event in {SPAN, lifecycle.END}:
                self._ends.setdefault(run.span_id, received_ns)

    def past_ns(self, host: Host, at_ns: int) -> int:
        """When it was known that everything of `host` up to `at_ns` had arrived; NEVER if it never was."""
        said, received = self._beats[host]
        # A beat from the future counts as one of now: what a clock is ahead, is known so much later.
        ahead_ns = max(0, host.clock_ns(at_ns) - at_ns)
        # Strictly after it, as "more than" is meant everywhere.
        place = bisect_left(said, at_ns + ahead_ns + round(self._limits.margin_s * SECOND_NS) + 1)
        return received[place] if place < len(received) else NEVER

    def lag_ns(self, host: Host, at_ns: int) -> int:
        """By how much the feed of `host` was behind at `at_ns`."""
        said, received = self._beats[host]
        place = bisect_left(received, at_ns + 1)
        return at_ns - said[place - 1] if place else 0

    def started_ns(self, run: TrueRun | None) -> int:
        """When its start was heard of."""
        return NEVER if run is None else self._starts.get(run.span_id, NEVER)

    def ended_ns(self, run: TrueRun) -> int:
        """When its end was heard of."""
        return self._ends.get(run.span_id, NEVER)

    def sign_ns(self, run: TrueRun) -> int | None:
        """The last time (true) of which it told."""
        return self._signs.get(run.span_id)


def facts(story: Story, heard: Heard, limits: Limits) -> Iterator[Fact]:
    """Everything that must be told, but what became untrue again before it could be known.

    Of jobs that announce nothing no moment can be named: a run may be on its way until its span is there. See `unheard`.
    """
    callers = {
        (run.job.key, run.lot): run for run in reversed(story.runs) if run.lot and run.result == "success" and not run.killed
    }
    for occasion in story.occasions:
        if not announces(occasion.job):
            continue
        called_ns = 0
        if isinstance(occasion.job.schedule, After):
            called_ns = heard.ended_ns(callers[(occasion.job.site, occasion.job.schedule.job), occasion.lot])
        missed_ns = max(called_ns, heard.past_ns(occasion.job.host, occasion.missed_ns))
        late_ns = max(called_ns, heard.past_ns(occasion.job.host, occasion.late_ns))
        came_ns = heard.started_ns(occasion.run)
        # What is missed is not late any more.
        yield from _told(Fact(What.LATE, occasion, late_ns, min(came_ns, missed_ns)))
        yield from _told(Fact(What.MISSED, occasion, missed_ns, came_ns))
    for run in story.runs:
        yield from _told_of_run(run, heard, limits)


def unheard(story: Story) -> Iterator[Occasion]:
    """Occasions of jobs that announce nothing to which no run came: all of them must be told some time."""
    return (one for one in story.occasions if not announces(one.job) and one.run is None)


def outage_seen_ns(outage: Outage, heard: Heard, limits: Limits, ticks: Iterable[int]) -> int | None:
    """The first of `ticks` at which the feed was behind because of `outage`; None when it never was by a tick."""
    allowed_ns = round((limits.margin_s + limits.behind_s) * SECOND_NS)
    return next((at_ns for at_ns in ticks if heard.lag_ns(outage.host, at_ns) > allowed_ns), None)


def announces(job: Job) -> bool:
    """Whether its runs say anything before their end."""
    return job.interval_s is not None


def _told(fact: Fact) -> Iterator[Fact]:
    if fact.known_ns < fact.until_ns:
        yield fact


def _told_of_run(run: TrueRun, heard: Heard, limits: Limits) -> Iterator[Fact]:
    interval_s, sign_ns = run.job.interval_s, heard.sign_ns(run)
    if interval_s is None or sign_ns is None:
        return
    if run.killed:
        lost_s = max(limits.lost_intervals * interval_s, limits.loss_floor_s)
        silent_s = limits.silent_intervals * interval_s
        # A run whose own clock is ahead is silent so much later.
        lost_ns, silent_ns = (
            heard.past_ns(run.host, sign_ns + round((quiet_s + run.job.lead_s) * SECOND_NS)) for quiet_s in (lost_s, silent_s)
        )
        # What is lost is not silent any more.
        yield from _told(Fact(What.SILENT, run, silent_ns, lost_ns))
        yield from _told(Fact(What.LOST, run, lost_ns))
    elif run.job.expected_s is not None:
        due_ns = run.start_ns + round((run.job.expected_s + run.job.lead_s) * SECOND_NS)
        yield from _told(Fact(What.OVERDUE, run, heard.past_ns(run.host, due_ns), heard.ended_ns(run)))
