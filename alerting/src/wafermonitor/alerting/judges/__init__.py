"""Judges: pure functions that say what holds now by a rule, one for each kind.

In: a `Rule` and a `Snapshot`. Out: `Finding` records. Called by: evaluator, rehearsal; declared and the docs read `KINDS`.
"""

from __future__ import annotations

__all__ = ["JUDGES", "KINDS", "judge"]

from wafermonitor.alerting.judges import absences, durations, feeds, liveness, resources, results, system
from wafermonitor.alerting.judges.findings import cared_for, half_seen
from wafermonitor.alerting.judges.kinds import Kind
from wafermonitor.alerting.rules import Rule
from wafermonitor.alerting.snapshot import Judge, Snapshot
from wafermonitor.runs.alerts import Finding

KINDS: dict[str, Kind] = {
    kind.name: kind for family in (absences, liveness, durations, results, resources, feeds, system) for kind in family.KINDS
}
"""Every kind of rule by its name."""

JUDGES: dict[str, Judge] = {name: kind.judge for name, kind in KINDS.items()}


def judge(rule: Rule, snapshot: Snapshot) -> list[Finding]:
    """What holds now by `rule`, of those subjects that it is for; with who cares for the job, by its expectations."""
    kind = KINDS[rule.kind]
    found = kind.judge(rule, snapshot)
    if snapshot.cut and kind.about in {"run", "site"}:
        found = half_seen(rule, found, snapshot)
    found = cared_for(rule, found, snapshot)
    return [one for one in found if rule.where.takes(one.subject, one.owner)]
