"""The store and the evaluator themselves: trouble with the database, maintenance and archive that stopped, ticks left out.

In: a rule and a snapshot. Out: findings. Called by: `judges.judge`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from wafermonitor.alerting.judges.findings import (
    again,
    finding,
    open_alerts,
    rfc3339,
    seconds,
    since,
    spoken,
)
from wafermonitor.alerting.judges.kinds import Kind, Limit
from wafermonitor.alerting.rules import Rule
from wafermonitor.alerting.snapshot import Snapshot
from wafermonitor.runs.alerts import Finding, Subject
from wafermonitor.runs.state import SECOND_NS
from wafermonitor.storage.protocol import StepHealth

GAP = Limit("over_s", 300.0, "nothing was evaluated for this long")
LASTS = Limit("lasts_s", 3_600.0, "the alert is over after this long")
NEEDED = ("partitions", "runs", "rollups")
"""Steps without which rows cannot be stored or read as they should."""
ARCHIVE = ("archive", "compaction", "compression", "retention")


def database(rule: Rule, snapshot: Snapshot) -> Iterator[Finding]:
    """The store does not answer, or a step it cannot do without fails."""
    if snapshot.health is None:
        subject = Subject()
        from_ns = since(rule, snapshot, subject, snapshot.now_ns)
        yield finding(rule, subject, from_ns, "The database does not answer: runs are neither stored nor read", {})
        for alert in open_alerts(rule, snapshot):
            if alert.subject != subject:
                yield again(alert, sure=False)
        return
    steps = (step for step in snapshot.health.steps if step.step in NEEDED)
    yield from _stopped(rule, snapshot, (step for step in steps if step.failing))


def archive_stopped(rule: Rule, snapshot: Snapshot) -> Iterator[Finding]:
    """Days are not compressed, archived or dropped any more."""
    return _steps(rule, snapshot, lambda step: step.step in ARCHIVE)


def maintenance_stopped(rule: Rule, snapshot: Snapshot) -> Iterator[Finding]:
    """Another step of the store's maintenance fails, or has not succeeded for long."""
    return _steps(rule, snapshot, lambda step: step.step not in ARCHIVE and not (step.step in NEEDED and step.failing))


def evaluator(rule: Rule, snapshot: Snapshot) -> Iterator[Finding]:
    """Nothing was evaluated for a while: what would have been told then is told now."""
    gap_s = 0.0 if snapshot.ticked_ns is None else seconds(snapshot.ticked_ns, snapshot.now_ns)
    if snapshot.ticked_ns is not None and gap_s > GAP.of(rule):
        summary = f"Nothing was evaluated for {spoken(gap_s)}, from {rfc3339(snapshot.ticked_ns)} on"
        yield finding(rule, Subject(), snapshot.ticked_ns, summary, {"gap_s": round(gap_s, 1)})
        return
    for alert in open_alerts(rule, snapshot):
        if seconds(alert.opened_ns, snapshot.now_ns) < LASTS.of(rule):
            yield again(alert)


def _steps(rule: Rule, snapshot: Snapshot, wanted: Callable[[StepHealth], bool]) -> Iterator[Finding]:
    if snapshot.health is None:
        yield from (again(alert, sure=False) for alert in open_alerts(rule, snapshot))
        return
    steps = (step for step in snapshot.health.steps if wanted(step))
    yield from _stopped(rule, snapshot, (step for step in steps if step.late or step.failing))


def _stopped(rule: Rule, snapshot: Snapshot, steps: Iterator[StepHealth]) -> Iterator[Finding]:
    for step in steps:
        subject = Subject(detail=step.step)
        age = "it never succeeded" if step.age_s is None else f"it last succeeded {spoken(step.age_s)} ago"
        since_ns = snapshot.now_ns - round((step.age_s or 0.0) * SECOND_NS)
        summary = f"The store's step {step.step} {'fails' if step.failing else 'is late'}: {age}"
        evidence = {"step": step.step, "age_s": step.age_s, "late": step.late, "failing": step.failing}
        yield finding(rule, subject, since(rule, snapshot, subject, since_ns), summary, evidence)


KINDS = (
    Kind("database", database, "system", "the database does not answer, or cannot keep its tables ready"),
    Kind("archive_stopped", archive_stopped, "system", "days are not compressed, archived or dropped any more"),
    Kind("maintenance_stopped", maintenance_stopped, "system", "a step of the store's maintenance fails or is late"),
    Kind("evaluator", evaluator, "system", "nothing was evaluated for a while", (GAP, LASTS)),
)
