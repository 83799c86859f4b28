"""Runs, feeds and expected runs as judges see them, in few words, and alerts from tick to tick."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from wafermonitor.alerting.expecting import Wish, dumps
from wafermonitor.alerting.judges import judge
from wafermonitor.alerting.rules import Rule
from wafermonitor.alerting.schedule import Cron
from wafermonitor.alerting.snapshot import Snapshot
from wafermonitor.runs.alerts import Alert, Expectation, ExpectedRun, Finding, Origin, Severity
from wafermonitor.runs.bands import profile
from wafermonitor.runs.expectations import Expected, ExpectedState
from wafermonitor.runs.records import Feed, Run
from wafermonitor.runs.state import Limits
from wafermonitor.storage.protocol import PastRun, Tally

SECOND = 1_000_000_000
MINUTE, HOUR, DAY = 60 * SECOND, 3600 * SECOND, 86_400 * SECOND
NOW = 1_790_000_000 * SECOND
SITE, JOB, FEED = "fab1", "lot_yield", "etch-pc"
LIMITS = Limits()


def rule(kind: str, *, name: str | None = None, severity: Severity = Severity.WARNING, **limits: float) -> Rule:
    return Rule(name or kind, kind, severity, limits)


def run(name: str = "a", *, start: int | None = NOW - MINUTE, parent: Run | None = None, **fields: Any) -> Run:
    """An open run with heartbeats, whose last sign was just now; `name` makes its ids, `parent` its trace."""
    digest = hashlib.sha256(name.encode()).digest()
    known = {
        "job": JOB,
        "feed": FEED,
        "start_ns": start,
        "last_sign_ns": NOW,
        "received_ns": NOW,
        "heartbeat_interval_s": 30.0,
        "parent_span_id": None if parent is None else parent.span_id,
    }
    trace_id = digest[:16] if parent is None else parent.trace_id
    return Run(site=fields.pop("site", SITE), trace_id=trace_id, span_id=digest[16:24], **known | fields)


def ended(
    name: str = "a", *, start: int = NOW - 10 * MINUTE, end: int = NOW - SECOND, result: str = "success", **fields: Any
) -> Run:
    return run(name, start=start, end_ns=end, end_rank=2, result=result, last_sign_ns=end, **fields)


def feed(
    behind_s: float = 0.0, *, name: str = FEED, site: str = SITE, now: int = NOW, skew_ns: int = 0
) -> tuple[tuple[str, str], Feed]:
    """A feed whose last beat was sent `behind_s` ago and came at once; one from the future was clamped."""
    told = now - round(behind_s * SECOND)
    return (site, name), Feed(site, name, min(told, told - skew_ns), told, skew_ns)


def feeds(*several: tuple[tuple[str, str], Feed]) -> dict[tuple[str, str], Feed]:
    return dict(several or [feed()])


def expected(
    state: ExpectedState, *, nominal: int = NOW - HOUR, name: str = "nightly", lot: str = "", **fields: Any
) -> ExpectedRun:
    due = Expected(nominal, nominal - MINUTE, nominal + 5 * MINUTE, nominal + 20 * MINUTE)
    return ExpectedRun(name, SITE, JOB, lot, due, state, **fields)


def expectation(
    wish: Wish | None = None, *, name: str = "nightly", site: str | None = SITE, job: str = JOB
) -> dict[str, Expectation]:
    spec = dumps(wish or Wish(Cron("0 2 * * *"), owner="yield-team", runbook="https://wiki/yield"))
    return {name: Expectation(name, site, job, Origin.DECLARED, spec, 0, 0, 0)}


def usual(
    duration_s: float = 600.0, *, runs: int = 30, errors: tuple[str, ...] = (), memory: int | None = 10**9
) -> dict[Any, Any]:
    """What is usual for the job: `runs` runs that took about `duration_s`."""
    known = [
        PastRun(
            run(str(i)).key,
            NOW - (i + 1) * HOUR,
            duration_s * (1 + (i % 5 - 2) / 50),
            "success",
            None,
            None,
            None,
            None,
            memory,
        )
        for i in range(runs)
    ]
    known += [
        PastRun(run("e").key, NOW - i * HOUR, 5.0, "failure", one, None, None, None, None) for i, one in enumerate(errors, 40)
    ]
    return {(SITE, JOB): profile(known, NOW)}


def tallies(**by_window: Tally | list[Tally]) -> Any:
    """`s3600=Tally(…)`: what ended within 3600 s; `s3600_86400`: within those before 86400 s ago."""
    known = {
        tuple(float(part) for part in f"{name[1:]}_0".split("_")[:2]): one if isinstance(one, list) else [one]
        for name, one in by_window.items()
    }
    return lambda window_s, ago_s=0.0: known.get((window_s, ago_s), [])


def snapshot(now: int = NOW, **fields: Any) -> Snapshot:
    return Snapshot(**{"now_ns": now, "ticked_ns": now - 10 * SECOND, "limits": LIMITS, "feeds": feeds(feed(now=now))} | fields)


def found(one: Rule, **fields: Any) -> list[Finding]:
    return judge(one, snapshot(**fields))


def evidence(one: Finding | Alert) -> dict[str, Any]:
    known = json.loads(one.evidence)
    assert isinstance(known, dict)
    return known


class Ticks:
    """One rule over many ticks: what is found opens alerts, what is not found any more is over."""

    def __init__(self, one: Rule) -> None:
        self.rule = one
        self.alerts: dict[str, Alert] = {}
        self.opened = 0

    def tick(self, now: int = NOW, **fields: Any) -> list[Alert]:
        """The alerts that are open after this tick."""
        findings = {one.fingerprint: one for one in judge(self.rule, snapshot(now, alerts=dict(self.alerts), **fields))}
        for key in set(self.alerts) - set(findings):
            del self.alerts[key]
        for key, one in findings.items():
            before = self.alerts.get(key)
            if before is None and one.sure:
                self.opened += 1
                self.alerts[key] = Alert(
                    key, key, one.rule, one.severity, one.subject, now, one.since_ns, now, one.summary, one.evidence,
                )  # fmt: skip
            elif before is not None and one.sure:
                self.alerts[key] = before._replace(
                    seen_ns=now, since_ns=one.since_ns, summary=one.summary, evidence=one.evidence
                )
        return list(self.alerts.values())
