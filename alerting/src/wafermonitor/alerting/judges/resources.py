"""What runs and this machine use up: memory, disks, the validity of certificates.

In: a rule and a snapshot. Out: findings. Called by: `judges.judge`.
"""

from __future__ import annotations

from collections.abc import Iterator

from wafermonitor.alerting.judges.findings import (
    again,
    end_of,
    finding,
    momentary,
    of_run,
    open_alerts,
    rfc3339,
    running_alert,
    seconds,
    since,
    spoken,
    start_of,
)
from wafermonitor.alerting.judges.kinds import LASTS, Kind, Limit
from wafermonitor.alerting.rules import Rule
from wafermonitor.alerting.snapshot import Snapshot
from wafermonitor.runs.alerts import Finding, Severity, Subject
from wafermonitor.runs.records import Run
from wafermonitor.runs.state import State, run_state

OVER = Limit("over_bytes", 8e9, "a run may take so much memory")
TIMES = Limit("times_usual", 0.0, "and so many times what its job usually takes; 0: whatever that is")
FREE = Limit("free_ratio", 0.1, "less of a disk is free")
FULL = Limit("critical_ratio", 0.03, "below this it is critical")
WITHIN = Limit("within_s", 1_209_600.0, "a certificate ends within this time")
SOON = Limit("critical_s", 172_800.0, "within this time it is critical")


def memory(rule: Rule, snapshot: Snapshot) -> Iterator[Finding]:
    """Runs that take too much memory: those going, and those that ended so since the last tick."""
    for run in snapshot.open_runs:
        if run.inferred or not _over(rule, snapshot, run):
            continue
        if run_state(run, snapshot.feed(run), snapshot.now_ns, snapshot.limits) is State.LOST:
            continue
        start_ns = start_of(run, snapshot)
        from_ns = since(rule, snapshot, of_run(run), start_ns if start_ns is not None else snapshot.now_ns)
        yield _memory(rule, run, from_ns, "takes")
    found = (
        (run, _memory(rule, run, end_of(run, snapshot), "took"))
        for run in snapshot.ended
        if _over(rule, snapshot, run) and not running_alert(rule, snapshot, of_run(run))
    )
    yield from momentary(rule, snapshot, found, LASTS.of(rule))


def disk(rule: Rule, snapshot: Snapshot) -> Iterator[Finding]:
    """Disks of this machine that are nearly full."""
    for path, free in snapshot.host.disks:
        if free < FREE.of(rule):
            subject = Subject(detail=path)
            severity = Severity.CRITICAL if free < FULL.of(rule) else rule.severity
            from_ns = since(rule, snapshot, subject, snapshot.now_ns)
            summary = f"{free:.1%} of the disk at {path} is free"
            yield finding(rule, subject, from_ns, summary, {"free_ratio": round(free, 4)}, severity=severity)
    yield from _unread(rule, snapshot)


def certificate(rule: Rule, snapshot: Snapshot) -> Iterator[Finding]:
    """Certificates that end soon, or have ended."""
    for file, end_ns in snapshot.host.certificates:
        left_s = seconds(snapshot.now_ns, end_ns)
        if left_s < WITHIN.of(rule):
            subject = Subject(detail=file)
            severity = Severity.CRITICAL if left_s < SOON.of(rule) else rule.severity
            when = f"in {spoken(left_s)}" if left_s > 0 else f"{spoken(-left_s)} ago"
            summary = f"The certificate {file} {'ends' if left_s > 0 else 'ended'} {when} ({rfc3339(end_ns)})"
            from_ns = since(rule, snapshot, subject, snapshot.now_ns)
            yield finding(rule, subject, from_ns, summary, {"left_s": round(left_s)}, severity=severity)
    yield from _unread(rule, snapshot)


def _unread(rule: Rule, snapshot: Snapshot) -> Iterator[Finding]:
    """Alerts about what cannot be read any more stay; the evaluator's own fault says why."""
    unread = {path for path, _ in snapshot.host.unread}
    return (again(alert, sure=False) for alert in open_alerts(rule, snapshot) if alert.subject.detail in unread)


def _over(rule: Rule, snapshot: Snapshot, run: Run) -> bool:
    most, times = OVER.of(rule), TIMES.of(rule)
    if run.memory_bytes is None or run.memory_bytes <= most:
        return False
    profile = snapshot.profiles.get((run.site, run.job or ""))
    usual = None if profile is None else profile.memory_bytes
    return not times or usual is None or run.memory_bytes > times * usual


def _memory(rule: Rule, run: Run, since_ns: int, verb: str) -> Finding:
    used = run.memory_bytes or 0
    summary = f"{run.job} of {run.site} {verb} {used / 1e9:.1f} GB of memory; {OVER.of(rule) / 1e9:.1f} GB are allowed"
    evidence = {"memory_bytes": used, "over_bytes": round(OVER.of(rule))}
    return finding(rule, of_run(run), since_ns, summary, evidence, owner=run.owner)


KINDS = (
    Kind("memory", memory, "run", "a run takes more memory than allowed", (OVER, TIMES, LASTS), momentary=True),
    Kind("disk", disk, "system", "a disk of this machine is nearly full", (FREE, FULL)),
    Kind("certificate", certificate, "system", "a certificate of this machine ends soon", (WITHIN, SOON)),
)
