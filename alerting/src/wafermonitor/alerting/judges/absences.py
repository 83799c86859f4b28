"""What did not come: late and missed runs of expectations, and sites from which no job comes any more.

In: a rule and a snapshot. Out: findings. Called by: `judges.judge`.

Late and missed are two rules about one expected run: when it is missed, the late one is over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from collections.abc import Set as AbstractSet

from wafermonitor.alerting.expecting import loads
from wafermonitor.alerting.judges.findings import (
    again,
    blind_sites,
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
from wafermonitor.runs.alerts import ExpectedRun, Finding, Subject
from wafermonitor.runs.expectations import ExpectedState
from wafermonitor.runs.state import SECOND_NS

LASTS = Limit("lasts_s", 86_400.0, "an alert is over after this long where neither the run nor the next one comes")
OVER = Limit("over_s", 3_600.0, "no run of the site ended for this long")
BASELINE = Limit("baseline_s", 86_400.0, "what is usual for the site is counted over this time")
USUAL = Limit("usual_least", 10.0, "so many runs must usually end in the time `over_s`, and half of them at this time of day")
_DAY_S, _WEEK_S = 86_400.0, 604_800.0
_HALF = 0.5


def subject_of(expected: ExpectedRun) -> Subject:
    """An expected run as a subject: the same for late and missed."""
    words = (expected.expectation, rfc3339(expected.due.nominal_ns), expected.subject)
    return Subject(site=expected.site, job=expected.job, detail=" ".join(filter(None, words)))


def late(rule: Rule, snapshot: Snapshot) -> Iterator[Finding]:
    """Expected runs that have not started in time."""
    for expected in snapshot.expected:
        if expected.state is ExpectedState.LATE:
            yield _absent(rule, snapshot, expected, expected.due.late_ns, "has not started")
        elif expected.state is ExpectedState.UNKNOWN:
            yield _absent(rule, snapshot, expected, expected.due.late_ns, "may not have started", sure=False)


def missed(rule: Rule, snapshot: Snapshot) -> Iterator[Finding]:
    """Expected runs that did not come; over when the run or the next one of the expectation comes."""
    seen: set[Subject] = set()
    met: dict[tuple[str, str | None, str], str] = {}
    mine = list(open_alerts(rule, snapshot))
    for expected in snapshot.expected:
        if expected.state is ExpectedState.MISSED:
            seen.add(subject_of(expected))
            if seconds(expected.due.missed_ns, snapshot.now_ns) < LASTS.of(rule):
                yield _absent(rule, snapshot, expected, expected.due.missed_ns, "did not run")
        elif expected.state is ExpectedState.UNKNOWN:
            seen.add(subject_of(expected))
            yield _absent(rule, snapshot, expected, expected.due.missed_ns, "may not have run", sure=False)
        elif mine and expected.state is ExpectedState.MET:
            key = (expected.expectation, expected.site, expected.subject)
            met[key] = max(met.get(key, ""), rfc3339(expected.due.nominal_ns))
            seen.add(subject_of(expected))
    for alert in mine:
        name, _, rest = alert.subject.detail.partition(" ")
        nominal, _, lot = rest.partition(" ")
        came = alert.subject in seen or met.get((name, alert.subject.site, lot), "") > nominal
        known = name in snapshot.expectations
        if known and not came and seconds(alert.since_ns, snapshot.now_ns) < LASTS.of(rule):
            yield again(alert)


def no_jobs(rule: Rule, snapshot: Snapshot) -> Iterator[Finding]:
    """Sites with many runs a day of which none ended for an hour, while their feeds are well.

    Not where it was quiet at this time yesterday, or a week ago: a site that works by day, or on weekdays, is not missed.
    """
    over_s = OVER.of(rule)
    usual: Counter[str] = Counter()
    for tally in snapshot.tallies(BASELINE.of(rule)):
        usual[tally.site] += tally.ended
    lately = {tally.site for tally in snapshot.tallies(over_s) if tally.ended}
    busy = lately | {run.site for run in snapshot.open_runs if not run.inferred}
    blind = blind_sites(snapshot)
    rates = {site: count * over_s / BASELINE.of(rule) for site, count in usual.items() if site not in busy}
    told = {site for site, rate in rates.items() if rate >= USUAL.of(rule) and site not in blind}
    known = {alert.subject.site for alert in open_alerts(rule, snapshot)}
    usually = _busy_then(rule, snapshot, told - known)
    for site, rate in sorted(rates.items()):
        if site in told and (site in known or site in usually):
            subject = Subject(site=site)
            from_ns = since(rule, snapshot, subject, snapshot.now_ns - round(over_s * SECOND_NS))
            quiet = spoken(seconds(from_ns, snapshot.now_ns))
            summary = f"No job of site {site} ended for {quiet}; usual are {rate:.0f} in {spoken(over_s)}"
            yield finding(rule, subject, from_ns, summary, {"usual": round(rate, 1), "over_s": over_s})
    for alert in open_alerts(rule, snapshot):
        site = alert.subject.site or ""
        if site not in told and (site in blind or site not in busy):
            yield again(alert, sure=site not in blind)


def _busy_then(rule: Rule, snapshot: Snapshot, sites: AbstractSet[str]) -> frozenset[str]:
    """Those of `sites` of which many runs ended at this time yesterday, and a week ago, if they ran that day at all."""

    def ended(window_s: float, ago_s: float) -> Counter[str]:
        found: Counter[str] = Counter()
        for tally in snapshot.tallies(window_s, ago_s):
            found[tally.site] += tally.ended
        return found

    least, over_s = _HALF * USUAL.of(rule), OVER.of(rule)
    for ago_s in (_DAY_S, _WEEK_S) if sites else ():
        then = ended(over_s, ago_s)
        quiet = {site for site in sites if then[site] < least}
        if quiet and ago_s == _WEEK_S:
            week = ended(_DAY_S, _WEEK_S - _DAY_S / 2)
            quiet = {site for site in quiet if week[site]}
        sites = sites - quiet
        if not sites:
            break
    return frozenset(sites)


def _absent(rule: Rule, snapshot: Snapshot, expected: ExpectedRun, since_ns: int, verb: str, *, sure: bool = True) -> Finding:
    expectation = snapshot.expectations.get(expected.expectation)
    wish = None if expectation is None else loads(expectation.spec)
    late_s = seconds(expected.due.nominal_ns, snapshot.now_ns)
    what = " ".join(filter(None, (expected.job, expected.subject and f"for {expected.subject}")))
    where = f" at {expected.site}" if expected.site else ""
    nominal = rfc3339(expected.due.nominal_ns)
    summary = f"{what}{where} {verb}: due {nominal}, {spoken(max(0.0, late_s))} ago"
    evidence = {"expectation": expected.expectation, "nominal": nominal, "late_s": round(late_s, 1)}
    return finding(
        rule, subject_of(expected), since_ns, summary, evidence, sure=sure,
        owner=wish.owner if wish else None, runbook=wish.runbook if wish else None,
    )  # fmt: skip


KINDS = (
    Kind("late", late, "job", "an expected run has not started in time"),
    Kind("missed", missed, "job", "an expected run did not come", (LASTS,)),
    Kind("no_jobs", no_jobs, "site", "no job comes from a site that usually has many", (OVER, BASELINE, USUAL)),
)
