"""Runs that take too long, while they go and when they have ended, and runs that were over too soon.

In: a rule and a snapshot. Out: findings. Called by: `judges.judge`.

One run is told of by one rule: `overdue` where somebody said how long it may take, else `duration_anomaly` where history
says it, else `running_long`. A run still going has taken as long as its feed has told of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import NamedTuple

from wafermonitor.alerting.judges.findings import (
    GOOD,
    Lasting,
    duration_of,
    end_of,
    finding,
    lasting,
    lasting_of,
    momentary,
    of_run,
    rfc3339,
    running_alert,
    seconds,
    spoken,
    start_of,
    told_until,
)
from wafermonitor.alerting.judges.kinds import LASTS, SUBJOBS, Kind, Limit
from wafermonitor.alerting.rules import Rule
from wafermonitor.alerting.snapshot import Snapshot
from wafermonitor.runs.alerts import Finding, Subject
from wafermonitor.runs.bands import Band
from wafermonitor.runs.records import Run
from wafermonitor.runs.state import SECOND_NS, State, clock_skew, run_state

OVER = Limit("over_s", 3_600.0, "a run of which nobody knows how long it takes may take this long")
FACTOR = Limit("factor", 1.0, "a run may take so many times what was expected")
BEYOND = Limit("factor", 1.0, "so many times the upper end of the job's band")
LEAST = Limit("least_s", 10.0, "and by so much longer than the middle of the band")
RATIO = Limit("ratio", 0.2, "less than this part of what is usual, and below the job's band")
USUAL = Limit("usual_least_s", 10.0, "jobs that usually take less are not judged")
_SLOWER = 1.3
"""From which factor on a job is called slower."""
_NEVER_JUDGED = frozenset({"cancellation", "skip"})


class Allowed(NamedTuple):
    """Until when a run may go, ns by the store's clock, and which words say so."""

    until_ns: int
    why: str


def running_long(rule: Rule, snapshot: Snapshot) -> Iterator[Finding]:
    """Runs that go for more than an hour, where neither a person nor history says how long they take."""
    known = lasting(snapshot)
    for run in _judged(rule, snapshot):
        start_ns = start_of(run, snapshot)
        if start_ns is None or _allowed(run, snapshot, lasting_of(run, known), 1.0) or _band(run, snapshot):
            continue
        until = Allowed(start_ns + round(OVER.of(rule) * SECOND_NS), f"more than {spoken(OVER.of(rule))}")
        yield from _still(rule, snapshot, run, until)


def overdue(rule: Rule, snapshot: Snapshot) -> Iterator[Finding]:
    """Runs past their deadline or their expected duration: those going, and those that ended so since the last tick."""
    known = lasting(snapshot)
    for run in snapshot.open_runs:
        wish = lasting_of(run, known)
        until = _allowed(run, snapshot, wish, FACTOR.of(rule))
        if until is not None and not run.inferred:
            yield from _still(rule, snapshot, run, until, wish)
    yield from momentary(rule, snapshot, _ended_overdue(rule, snapshot, known), LASTS.of(rule))


def duration_anomaly(rule: Rule, snapshot: Snapshot) -> Iterator[Finding]:
    """Runs that take longer than this job's runs do at this hour, going or ended well; jobs whose last runs all take longer."""
    known = lasting(snapshot)
    for run in _judged(rule, snapshot):
        start_ns, band = start_of(run, snapshot), _band(run, snapshot)
        wish = lasting_of(run, known)
        allowed = _allowed(run, snapshot, wish, 1.0)
        if start_ns is None or band is None or (allowed is not None and allowed.until_ns < snapshot.now_ns):
            continue
        until = Allowed(start_ns + round(_most(rule, band) * SECOND_NS), f"usual are {_usual(band)}")
        yield from _still(rule, snapshot, run, until, wish)
    ended = chain(_ended_unusual(rule, snapshot, known), _slower(rule, snapshot))
    yield from momentary(rule, snapshot, ended, LASTS.of(rule))


def too_short(rule: Rule, snapshot: Snapshot) -> Iterator[Finding]:
    """Runs that ended well before they can have done their work."""
    return momentary(rule, snapshot, _ended_early(rule, snapshot), LASTS.of(rule))


def _ended_overdue(
    rule: Rule, snapshot: Snapshot, known: Mapping[tuple[str | None, str], Lasting]
) -> Iterator[tuple[Run, Finding]]:
    for run in snapshot.ended:
        if run.result in _NEVER_JUDGED or running_alert(rule, snapshot, of_run(run)):
            continue
        wish, took_s, ended_ns = lasting_of(run, known), duration_of(run), end_of(run, snapshot)
        until = _allowed(run, snapshot, wish, FACTOR.of(rule))
        if until is None or ended_ns <= until.until_ns:
            continue
        over_s = seconds(until.until_ns, ended_ns)
        summary = f"{run.job} of {run.site} ended {spoken(over_s)} late: {until.why}"
        evidence = {"over_s": round(over_s, 1), "duration_s": took_s, "until": rfc3339(until.until_ns)}
        owner = run.owner or wish.owner
        yield run, finding(rule, of_run(run), until.until_ns, summary, evidence, owner=owner, runbook=wish.runbook)


def _ended_unusual(
    rule: Rule, snapshot: Snapshot, known: Mapping[tuple[str | None, str], Lasting]
) -> Iterator[tuple[Run, Finding]]:
    for run in snapshot.ended:
        took_s, band = duration_of(run), _band(run, snapshot)
        if run.result != GOOD or took_s is None or band is None or not _wanted(rule, run):
            continue
        allowed = _allowed(run, snapshot, lasting_of(run, known), 1.0)
        told = allowed is not None and end_of(run, snapshot) > allowed.until_ns
        if took_s <= _most(rule, band) or told or running_alert(rule, snapshot, of_run(run)):
            continue
        summary = f"{run.job} of {run.site} took {spoken(took_s)}; usual are {_usual(band)}"
        yield run, finding(rule, of_run(run), end_of(run, snapshot), summary, _numbers(took_s, band), owner=run.owner)


def _slower(rule: Rule, snapshot: Snapshot) -> Iterator[tuple[Run, Finding]]:
    """One finding for each job that is slower of late, though each of its runs may be within its band."""
    for run in snapshot.ended:
        profile = snapshot.profiles.get((run.site, run.job or ""))
        took_s, band = duration_of(run), _band(run, snapshot)
        if profile is None or profile.shift is None or run.result != GOOD or took_s is None or not _wanted(rule, run):
            continue
        shift = profile.shift
        if (
            band is None
            or shift.factor < _SLOWER
            or took_s > _most(rule, band)
            or took_s * (1 - 1 / shift.factor) < LEAST.of(rule)
        ):
            continue
        summary = (
            f"{run.job} of {run.site} is slower since {rfc3339(shift.since_ns)}: its last {shift.runs} good runs took about "
            f"{shift.factor:.1f} times what is usual"
        )
        evidence = {"factor": round(shift.factor, 2), "runs": shift.runs, "duration_s": round(took_s, 3)}
        subject = Subject(site=run.site, job=run.job, detail="slower")
        yield run, finding(rule, subject, shift.since_ns, summary, evidence, owner=run.owner)


def _ended_early(rule: Rule, snapshot: Snapshot) -> Iterator[tuple[Run, Finding]]:
    known = lasting(snapshot)
    for run in snapshot.ended:
        took_s = duration_of(run)
        if run.result != GOOD or took_s is None:
            continue
        wish, band = lasting_of(run, known), _band(run, snapshot)
        if wish.min_s is not None:
            least_s, why = wish.min_s, f"expected are {spoken(wish.min_s)} or more"
        elif band is not None and band.mid_s >= USUAL.of(rule) and _wanted(rule, run):
            least_s, why = min(band.low_s, band.mid_s * RATIO.of(rule)), f"usual are {_usual(band)}"
        else:
            continue
        if took_s < least_s:
            summary = f"{run.job} of {run.site} ended after {spoken(took_s)} already; {why}"
            evidence = {"duration_s": round(took_s, 3), "least_s": round(least_s, 3)}
            owner = run.owner or wish.owner
            one = finding(rule, of_run(run), end_of(run, snapshot), summary, evidence, owner=owner, runbook=wish.runbook)
            yield run, one


def _still(rule: Rule, snapshot: Snapshot, run: Run, until: Allowed, wish: Lasting | None = None) -> Iterator[Finding]:
    """What `rule` says of a run that goes on after `until`. Not sure where its feed has not told of a time after it."""
    if snapshot.now_ns <= until.until_ns:
        return
    state = run_state(run, snapshot.feed(run), snapshot.now_ns, snapshot.limits)
    if state is State.LOST:
        return
    wish = wish or Lasting()
    sure = told_until(run, snapshot) > until.until_ns
    start_ns = start_of(run, snapshot)
    going_s = None if start_ns is None else round(seconds(start_ns, snapshot.now_ns), 1)
    words = "is still running" if going_s is None else f"has been running for {spoken(max(0.0, going_s))}"
    evidence = {"running_s": going_s, "until": rfc3339(until.until_ns), "state": str(state)}
    summary = f"{run.job} of {run.site} {words}; {until.why}"
    owner = run.owner or wish.owner
    yield finding(rule, of_run(run), until.until_ns, summary, evidence, owner=owner, runbook=wish.runbook, sure=sure)


def _allowed(run: Run, snapshot: Snapshot, wish: Lasting, factor: float) -> Allowed | None:
    """The earlier of the deadline and what was said of the duration (the expectation before the run); None: nobody said."""
    found = []
    feed, start_ns = snapshot.feed(run), start_of(run, snapshot)
    if run.deadline_ns is not None:
        at_ns = run.deadline_ns
        found.append(Allowed(at_ns, f"its deadline was {rfc3339(at_ns)}"))
    said_s = wish.max_s if wish.max_s is not None else run.expected_duration_s
    if run.ended and run.start_ns is not None:
        start_ns = run.start_ns + (clock_skew(feed) if feed is not None else 0)
    if said_s is not None and start_ns is not None:
        found.append(Allowed(start_ns + round(said_s * factor * SECOND_NS), f"expected are {spoken(said_s * factor)}"))
    return min(found, default=None)


def _band(run: Run, snapshot: Snapshot) -> Band | None:
    profile = snapshot.profiles.get((run.site, run.job or ""))
    start_ns = start_of(run, snapshot)
    if profile is None or start_ns is None:
        return None
    return profile.band(start_ns, recipe=run.recipe, product=run.product, equipment=run.equipment)


def _judged(rule: Rule, snapshot: Snapshot) -> Iterator[Run]:
    return (run for run in snapshot.open_runs if not run.inferred and _wanted(rule, run))


def _wanted(rule: Rule, run: Run) -> bool:
    return run.parent_span_id is None or bool(SUBJOBS.of(rule))


def _most(rule: Rule, band: Band) -> float:
    return max(band.high_s * BEYOND.of(rule), band.mid_s + LEAST.of(rule))


def _usual(band: Band) -> str:
    return f"{spoken(band.low_s)} to {spoken(band.high_s)} ({band.count} runs)"


def _numbers(took_s: float, band: Band) -> dict[str, float]:
    return {
        "duration_s": round(took_s, 3),
        "usual_low_s": round(band.low_s, 3),
        "usual_s": round(band.mid_s, 3),
        "usual_high_s": round(band.high_s, 3),
        "runs": band.count,
    }


KINDS = (
    Kind(
        "running_long", running_long, "run", "a run of unknown duration goes for over an hour",
        (OVER, SUBJOBS),
    ),
    Kind(
        "overdue", overdue, "run", "a run takes longer than expected, or is past its deadline",
        (FACTOR, LASTS), momentary=True,
    ),
    Kind(
        "duration_anomaly", duration_anomaly, "run", "a run takes longer than the job's runs do at this time",
        (BEYOND, LEAST, SUBJOBS, LASTS), momentary=True,
    ),
    Kind(
        "too_short", too_short, "run", "a run ended well, but too soon",
        (RATIO, USUAL, SUBJOBS, LASTS), momentary=True,
    ),
)  # fmt: skip
