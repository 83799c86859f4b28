"""Findings become alerts: opened once, brought up to date, resolved when they are over. Pure.

In: what each rule found in this tick, the alerts that are open, how long findings have waited. Out: alerts to store.
Called by: evaluator, rehearsal.

An alert is known by its fingerprint while it is open, and its id follows from that and the tick: the same tick, made twice,
opens the same alert.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from wafermonitor.alerting.rules import Rule
from wafermonitor.runs.alerts import Alert, Finding, opened
from wafermonitor.runs.state import SECOND_NS

_REFRESH_NS = 60 * SECOND_NS
_LONGEST_REFRESH_NS = 3600 * SECOND_NS
_REFRESH_PART = 10
"""What only got older is written again after a tenth of its age: an alert of a day need not change each tick."""

Holding = Mapping[str, tuple[str, int]]
"""By fingerprint of a finding that waits for its rule's `hold_s`: the rule, and since when it holds, ns."""


class Reconciled(NamedTuple):
    """`updated` and `resolved` are as they are to be stored; `open_alerts` are all that are open after this tick."""

    opened: list[Alert]
    updated: list[Alert]
    resolved: list[Alert]
    open_alerts: list[Alert]
    holding: dict[str, tuple[str, int]]

    @property
    def stored(self) -> list[Alert]:
        """All that changed."""
        return [*self.resolved, *self.updated, *self.opened]


def reconcile(
    rules: Mapping[str, Rule],
    found: Mapping[str, Iterable[Finding]],
    open_alerts: Sequence[Alert],
    holding: Holding,
    now_ns: int,
) -> Reconciled:
    """The alerts after this tick.

    `found`: by rule, of those that were asked; what others have open stays. An alert whose rule is no more is over.
    """
    best = {name: _strongest(findings) for name, findings in found.items()}
    unasked = {key: held for key, held in holding.items() if held[0] not in found and held[0] in rules}
    answer = Reconciled([], [], [], [], unasked)
    known = set()
    for alert in open_alerts:
        known.add(alert.fingerprint)
        finding = best.get(alert.rule, {}).get(alert.fingerprint)
        if finding is not None:
            fresh = _renewed(alert, finding, now_ns)
            answer.open_alerts.append(fresh)
            if fresh is not alert:
                answer.updated.append(fresh)
        elif alert.rule in found or alert.rule not in rules:
            answer.resolved.append(alert._replace(resolved_ns=now_ns))
        else:
            answer.open_alerts.append(alert)
    for name, findings in best.items():
        for fingerprint, finding in findings.items():
            if fingerprint not in known:
                _open(answer, rules.get(name), fingerprint, finding, holding.get(fingerprint), now_ns)
    return answer


def dumps(holding: Holding) -> str:
    """As JSON text."""
    return json.dumps(holding, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def loads(text: str | None) -> dict[str, tuple[str, int]]:
    """What `dumps` wrote; nothing where there is no note yet."""
    return {key: (rule, since_ns) for key, (rule, since_ns) in json.loads(text).items()} if text else {}


def _strongest(findings: Iterable[Finding]) -> dict[str, Finding]:
    """By fingerprint; of several about one subject the surest, then the most severe."""
    best: dict[str, Finding] = {}
    for finding in findings:
        other = best.get(finding.fingerprint)
        if other is None or (finding.sure, finding.severity) > (other.sure, other.severity):
            best[finding.fingerprint] = finding
    return best


def _open(  # noqa: PLR0917 - what one finding needs to become an alert
    answer: Reconciled, rule: Rule | None, fingerprint: str, finding: Finding, held: tuple[str, int] | None, now_ns: int
) -> None:
    hold_ns = 0 if rule is None else round(rule.hold_s * SECOND_NS)
    since_ns = now_ns if held is None else held[1]  # since it is found: what a spool brings at once has held for no time
    if not finding.sure:
        if held is not None:
            answer.holding[fingerprint] = held
        return
    if now_ns - since_ns < hold_ns:
        answer.holding[fingerprint] = finding.rule, since_ns
        return
    alert = opened(finding, now_ns)
    answer.opened.append(alert)
    answer.open_alerts.append(alert)


def _renewed(alert: Alert, finding: Finding, now_ns: int) -> Alert:
    """The alert with what is new; itself where nothing is that must be written now."""
    if not finding.sure:
        return alert
    severity = max(alert.severity, finding.severity)
    age_ns = (now_ns - alert.opened_ns) // _REFRESH_PART
    due = now_ns - alert.seen_ns >= min(max(_REFRESH_NS, age_ns), _LONGEST_REFRESH_NS)
    told = (severity, finding.owner or alert.owner, finding.runbook or alert.runbook)
    if not due and told == (alert.severity, alert.owner, alert.runbook):
        return alert
    return alert._replace(
        severity=severity,
        seen_ns=now_ns,
        summary=finding.summary,
        evidence=finding.evidence,
        cause=finding.cause or alert.cause,
        owner=told[1],
        runbook=told[2],
    )
