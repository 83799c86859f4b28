"""How judges make findings: since when, numbers as JSON, durations in words, and alerts about runs that are over.

In: a rule, a snapshot, what a judge found. Out: `Finding` records. Called by: every judge.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from wafermonitor.alerting.expecting import loads
from wafermonitor.alerting.rules import Rule
from wafermonitor.alerting.snapshot import Snapshot
from wafermonitor.runs.alerts import Alert, Expectation, Finding, Severity, Subject
from wafermonitor.runs.expectations import known_until, true_start
from wafermonitor.runs.records import Feed, Run, RunKey
from wafermonitor.runs.state import SECOND_NS, clock_skew

GOOD = "success"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
_ENDED = "ended_ns"
"""In the evidence of an alert about a run that is over: when that was."""
LASTING = "lasting"
"""Where a snapshot's memo has what expectations say of durations."""


class Lasting(NamedTuple):
    """How long runs of a job may take and be quiet, by its expectations; None: nobody said."""

    max_s: float | None = None
    min_s: float | None = None
    silence_s: float | None = None
    owner: str | None = None
    runbook: str | None = None


def finding(
    rule: Rule,
    subject: Subject,
    since_ns: int,
    summary: str,
    evidence: Mapping[str, Any],
    *,
    owner: str | None = None,
    runbook: str | None = None,
    severity: Severity | None = None,
    sure: bool = True,
) -> Finding:
    """One finding of `rule`; an expectation's own runbook counts more than the rule's."""
    return Finding(
        rule=rule.name,
        severity=rule.severity if severity is None else severity,
        subject=subject,
        since_ns=since_ns,
        summary=summary,
        evidence=json.dumps(dict(evidence), ensure_ascii=False, sort_keys=True, separators=(",", ":")),
        runbook=runbook or rule.runbook,
        owner=owner,
        sure=sure,
    )


def again(alert: Alert, *, sure: bool = True) -> Finding:
    """What an open alert says, once more."""
    return Finding(
        alert.rule, alert.severity, alert.subject, alert.since_ns, alert.summary, alert.evidence,
        alert.cause, alert.runbook, alert.owner, sure,
    )  # fmt: skip


def half_seen(rule: Rule, found: Iterable[Finding], snapshot: Snapshot) -> Iterator[Finding]:
    """What was found where not all open runs could be read: nobody knows of the others, nor of runs whose parent is one."""
    keys = {run.key for run in snapshot.open_runs}
    seen = {run.key for run in snapshot.ended}
    for run in snapshot.open_runs:
        if run.parent_span_id is None or RunKey(run.site, run.trace_id, run.parent_span_id) in keys:
            seen.add(run.key)
    told = set()
    for one in found:
        told.add(one.subject)
        yield one if one.subject.run in seen else one._replace(sure=False)
    for alert in open_alerts(rule, snapshot):
        if alert.subject not in told and alert.subject.run not in seen and _ENDED not in json.loads(alert.evidence):
            yield again(alert, sure=False)


def open_alerts(rule: Rule, snapshot: Snapshot) -> Iterator[Alert]:
    """Open alerts of `rule`."""
    return (alert for alert in snapshot.alerts.values() if alert.rule == rule.name)


def since(rule: Rule, snapshot: Snapshot, subject: Subject, otherwise_ns: int) -> int:
    """Since when an open alert about `subject` holds; without one `otherwise_ns`."""
    alert = _by_subject(snapshot).get((rule.name, subject))
    return otherwise_ns if alert is None else alert.since_ns


def momentary(rule: Rule, snapshot: Snapshot, found: Iterable[tuple[Run, Finding]], lasts_s: float) -> Iterator[Finding]:
    """Findings about runs that just ended, and open alerts about such runs until the job's next good run or for `lasts_s`.

    A run that ended longer ago than that is history, which a replayed spool brings: nobody is told.
    """
    fresh = {}
    for run, one in found:
        end_ns = end_of(run, snapshot)
        if seconds(end_ns, snapshot.now_ns) <= lasts_s:
            evidence = json.loads(one.evidence) | {_ENDED: end_ns}
            fresh[one.fingerprint] = one._replace(evidence=json.dumps(evidence, ensure_ascii=False, sort_keys=True))
    yield from fresh.values()
    told = {one.subject.run for one in fresh.values()}
    good: dict[tuple[str, str | None], int] = {}
    for run in snapshot.ended:
        if run.result == GOOD and run.key not in told:
            good[run.site, run.job] = max(good.get((run.site, run.job), 0), end_of(run, snapshot))
    for alert in open_alerts(rule, snapshot):
        ended_ns = json.loads(alert.evidence).get(_ENDED)
        if ended_ns is None or alert.fingerprint in fresh:
            continue
        mended = good.get((alert.subject.site or "", alert.subject.job), 0) > ended_ns
        if not mended and seconds(alert.opened_ns, snapshot.now_ns) < lasts_s:
            yield again(alert)


def running_alert(rule: Rule, snapshot: Snapshot, subject: Subject) -> bool:
    """Whether an alert about `subject` opened while its run was going: when the run ends, it is over."""
    alert = _by_subject(snapshot).get((rule.name, subject))
    return alert is not None and _ENDED not in json.loads(alert.evidence)


def _by_subject(snapshot: Snapshot) -> dict[tuple[str, Subject], Alert]:
    """Open alerts by rule and subject: a fingerprint says the same, and costs a digest each time."""
    known: dict[tuple[str, Subject], Alert] | None = snapshot.memo.get("by_subject")
    if known is None:
        known = snapshot.memo["by_subject"] = {(alert.rule, alert.subject): alert for alert in snapshot.alerts.values()}
    return known


def of_run(run: Run) -> Subject:
    """A run as a subject."""
    return Subject(site=run.site, job=run.job, run=run.key)


def start_of(run: Run, snapshot: Snapshot) -> int | None:
    """When `run` started by the store's clock, ns."""
    return true_start(run, snapshot.feed(run))


def end_of(run: Run, snapshot: Snapshot) -> int:
    """When `run` ended by the store's clock, ns, never after now."""
    feed = snapshot.feed(run)
    if run.end_ns is None:
        return snapshot.now_ns
    return min(snapshot.now_ns, run.end_ns + (clock_skew(feed) if feed is not None else 0))


def duration_of(run: Run) -> float | None:
    """How long an ended run took, s; both ends are by one clock, so that its error does not count."""
    if run.start_ns is None or run.end_ns is None:
        return None
    return max(0.0, seconds(run.start_ns, run.end_ns))


def told_until(run: Run, snapshot: Snapshot) -> int:
    """Up to when everything about `run` has been told, ns by the store's clock: its feed's watermark less the margin."""
    feed = snapshot.feed(run)
    return known_until([] if feed is None else [feed], snapshot.now_ns, snapshot.limits)


def lag_s(feed: Feed, now_ns: int) -> float:
    """How far a feed's watermark is behind now, s; 0 for a feed that never beat. A dark feed is not forgiven."""
    heard_ns = heard_until(feed)
    return 0.0 if heard_ns is None else seconds(heard_ns, now_ns)


def heard_until(feed: Feed) -> int | None:
    """When the feed's last beat was sent by the store's clock, ns; None: it never beat.

    A clock that is ahead is not taken out: its beats from the future were clamped to the time of their arrival.
    """
    return None if feed.watermark_ns is None else feed.watermark_ns + max(0, clock_skew(feed))


def blind_sites(snapshot: Snapshot) -> frozenset[str]:
    """Sites of which nobody can know everything now, because a feed of theirs is behind."""
    limits = snapshot.limits
    return frozenset(
        feed.site for feed in snapshot.feeds.values() if lag_s(feed, snapshot.now_ns) > limits.margin_s + limits.behind_s
    )


def lasting(snapshot: Snapshot) -> Mapping[tuple[str | None, str], Lasting]:
    """By (site, job) what expectations say of durations; of several for one job the loosest counts. A site of None is all."""
    if LASTING not in snapshot.memo:
        snapshot.memo[LASTING] = lastings(snapshot.expectations.values())
    known: Mapping[tuple[str | None, str], Lasting] = snapshot.memo[LASTING]
    return known


def lastings(expectations: Iterable[Expectation]) -> dict[tuple[str | None, str], Lasting]:
    """The same of some expectations."""
    found: dict[tuple[str | None, str], Lasting] = {}
    several: dict[tuple[str | None, str], list[Lasting]] = {}
    for expectation in expectations:
        key, one = (expectation.site, expectation.job), _lasting(expectation.spec)
        if key in found:
            several.setdefault(key, [found[key]]).append(one)
        else:
            found[key] = one
    return found | {key: _loosest(wishes) for key, wishes in several.items()}


def lasting_of(run: Run | Subject, known: Mapping[tuple[str | None, str], Lasting]) -> Lasting:
    """What is said of the durations of `run`'s job: of its site, else of all."""
    job = run.job or ""
    return known.get((run.site, job)) or known.get((None, job)) or Lasting()


def cared_for(rule: Rule, found: Iterable[Finding], snapshot: Snapshot) -> Iterator[Finding]:
    """What was found, with the owner and the runbook that expectations name for its job, where the judge found none."""
    known = lasting(snapshot) if snapshot.expectations else {}
    for one in found:
        wish = lasting_of(one.subject, known)
        runbook = wish.runbook if one.runbook in {None, rule.runbook} else None
        yield one._replace(owner=one.owner or wish.owner, runbook=runbook or one.runbook)


@lru_cache(maxsize=65_536)
def _lasting(spec: str) -> Lasting:
    wish = loads(spec)
    return Lasting(wish.max_duration_s, wish.min_duration_s, wish.silence_s, wish.owner, wish.runbook)


def _loosest(several: Sequence[Lasting]) -> Lasting:
    def of(name: str, choose: Callable[[Iterable[float]], float]) -> float | None:
        values = [getattr(one, name) for one in several]
        return None if None in values else choose(values)

    owner = next((one.owner for one in several if one.owner), None)
    runbook = next((one.runbook for one in several if one.runbook), None)
    return Lasting(of("max_s", max), of("min_s", min), of("silence_s", max), owner, runbook)


def seconds(from_ns: int, to_ns: int) -> float:
    """From one time to another, s."""
    return (to_ns - from_ns) / SECOND_NS


def spoken(duration_s: float) -> str:
    """`2 h 5 min`, `45 s`, `0.3 s`: the two largest units."""
    if duration_s < 10:  # noqa: PLR2004 - below this, tenths tell something
        return f"{duration_s:.1f} s".replace(".0 ", " ")
    rest = round(duration_s)
    parts: list[str] = []
    for unit, size in _UNITS:
        if rest >= size and len(parts) < 2:  # noqa: PLR2004 - two units
            parts.append(f"{rest // size} {unit}")
            rest %= size
        elif parts:
            break
    return " ".join(parts)


def rfc3339(at_ns: int) -> str:
    """`2026-11-23T02:00:00Z`, with a fraction where there is one."""
    at = _EPOCH + timedelta(microseconds=at_ns // 1000)
    return at.isoformat().replace("+00:00", "Z")
