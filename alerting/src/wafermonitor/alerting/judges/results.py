"""How runs end: failures, their rate, kinds of error never seen before, and how fast an error budget burns.

In: a rule and a snapshot. Out: findings. Called by: `judges.judge`.

While a feed of a site is behind, what is open about its jobs stays open: what has not come may have failed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from wafermonitor.alerting.judges.findings import (
    again,
    blind_sites,
    end_of,
    finding,
    momentary,
    open_alerts,
    since,
    spoken,
)
from wafermonitor.alerting.judges.kinds import LASTS, SUBJOBS, Kind, Limit
from wafermonitor.alerting.rules import Rule
from wafermonitor.alerting.snapshot import Snapshot
from wafermonitor.runs.alerts import Finding, Subject
from wafermonitor.runs.records import Run
from wafermonitor.runs.state import BAD_RESULTS
from wafermonitor.storage.protocol import Tally

RATIO = Limit("ratio", 0.1, "more than this part of the runs failed")
WINDOW = Limit("window_s", 3_600.0, "of the runs that ended within this time")
RUNS = Limit("runs_least", 10.0, "fewer runs than these are not judged")
BAD = Limit("bad_least", 2.0, "fewer failures than these are not judged")
SELDOM = Limit("runs_most", 24.0, "jobs that end more often in a day are judged by their failure rate instead")
OBJECTIVE = Limit("objective", 0.99, "this part of the runs should end well and in time")
FAST = (
    Limit("fast_long_s", 3_600.0, "a fast burn is judged over this time"),
    Limit("fast_short_s", 300.0, "and must go on within this time"),
    Limit("fast_burn", 14.4, "so many times as fast as the budget allows: 2 % of a month's in an hour"),
)
SLOW = (
    Limit("slow_long_s", 21_600.0, "a slow burn is judged over this time"),
    Limit("slow_short_s", 1_800.0, "and must go on within this time"),
    Limit("slow_burn", 6.0, "so many times as fast as the budget allows: 5 % of a month's in six hours"),
)
_DAY_S = 86_400.0


class Burn(NamedTuple):
    """How many times as fast as allowed a budget was used over `window_s`, by how many bad runs of how many."""

    rate: float
    bad: int
    ended: int
    window_s: float


def failed(rule: Rule, snapshot: Snapshot) -> Iterator[Finding]:
    """A run of a job that does not run often ended badly; over with its next good run."""
    often = {(tally.site, tally.job) for tally in snapshot.tallies(_DAY_S) if tally.ended > SELDOM.of(rule)}
    last: dict[Subject, Run] = {}
    for run in sorted(snapshot.ended, key=lambda run: end_of(run, snapshot)):
        if (run.site, run.job) not in often and _wanted(rule, run):
            last[Subject(site=run.site, job=run.job)] = run
    found = [(run, _failure(rule, snapshot, subject, run)) for subject, run in last.items() if run.result in BAD_RESULTS]
    return momentary(rule, snapshot, found, LASTS.of(rule))


def new_error_type(rule: Rule, snapshot: Snapshot) -> Iterator[Finding]:
    """A run failed with a type of error that this job never had."""
    return momentary(rule, snapshot, _new_errors(rule, snapshot), LASTS.of(rule))


def failure_rate(rule: Rule, snapshot: Snapshot) -> Iterator[Finding]:
    """Jobs of which too many runs fail."""
    told = set()
    for tally in snapshot.tallies(WINDOW.of(rule)):
        if tally.ended < RUNS.of(rule) or tally.bad < BAD.of(rule) or tally.bad <= RATIO.of(rule) * tally.ended:
            continue
        subject = Subject(site=tally.site, job=tally.job)
        summary = (
            f"{tally.bad} of {tally.ended} runs of {tally.job} at {tally.site} failed within {spoken(WINDOW.of(rule))}"
            f" ({tally.bad / tally.ended:.0%})"
        )
        evidence = {"bad": tally.bad, "ended": tally.ended, "ratio": round(tally.bad / tally.ended, 4)}
        one = finding(rule, subject, since(rule, snapshot, subject, snapshot.now_ns), summary, evidence)
        told.add(one.fingerprint)
        yield one
    yield from _unknown(rule, snapshot, told)


def success_burn(rule: Rule, snapshot: Snapshot) -> Iterator[Finding]:
    """Jobs whose budget of failed and late runs burns too fast, over a long time and still over a short one."""
    told = set()
    for long, short, most in (FAST, SLOW):
        lately = {(tally.site, tally.job): tally for tally in snapshot.tallies(short.of(rule))}
        for tally in snapshot.tallies(long.of(rule)):
            now = lately.get((tally.site, tally.job))
            if now is None or tally.ended < RUNS.of(rule):
                continue
            whole, part = _burn(rule, tally, long.of(rule)), _burn(rule, now, short.of(rule))
            if whole.bad < BAD.of(rule) or min(whole.rate, part.rate) <= most.of(rule):
                continue
            subject = Subject(site=tally.site, job=tally.job)
            one = _burning(rule, snapshot, subject, whole, part)
            if one.fingerprint not in told:
                told.add(one.fingerprint)
                yield one
    yield from _unknown(rule, snapshot, told)


def _failure(rule: Rule, snapshot: Snapshot, subject: Subject, run: Run) -> Finding:
    ended_ns = end_of(run, snapshot)
    why = f" with {run.error_type}" if run.error_type else ""
    summary = f"{run.job} of {run.site} ended in {run.result}{why}"
    evidence = {"run": run.key.id, "result": run.result, "error_type": run.error_type}
    return finding(rule, subject, since(rule, snapshot, subject, ended_ns), summary, evidence, owner=run.owner)


def _new_errors(rule: Rule, snapshot: Snapshot) -> Iterator[tuple[Run, Finding]]:
    for run in snapshot.ended:
        profile = snapshot.profiles.get((run.site, run.job or ""))
        if profile is None or not profile.runs or run.result not in BAD_RESULTS or run.error_type is None:
            continue
        if run.error_type in profile.error_types or not _wanted(rule, run):
            continue
        subject = Subject(site=run.site, job=run.job, detail=run.error_type)
        summary = f"{run.job} of {run.site} failed with {run.error_type}, which it never did before"
        evidence = {"run": run.key.id, "error_type": run.error_type, "known": sorted(profile.error_types)[:20]}
        yield run, finding(rule, subject, end_of(run, snapshot), summary, evidence, owner=run.owner)


def _burn(rule: Rule, tally: Tally, window_s: float) -> Burn:
    bad = min(tally.ended, tally.bad + tally.late)
    allowed = max(1e-9, 1.0 - OBJECTIVE.of(rule))
    rate = round(bad / tally.ended / allowed, 9) if tally.ended else 0.0  # 1 − 0.9 is not quite 0.1
    return Burn(rate, bad, tally.ended, window_s)


def _burning(rule: Rule, snapshot: Snapshot, subject: Subject, whole: Burn, part: Burn) -> Finding:
    summary = (
        f"{subject.job} at {subject.site} uses up its error budget: {whole.bad} of {whole.ended} runs failed or were"
        f" late within {spoken(whole.window_s)}, {whole.rate:.1f} times what {OBJECTIVE.of(rule):.2%} allows"
    )
    evidence = {
        "objective": OBJECTIVE.of(rule),
        "burn": round(whole.rate, 2),
        "burn_lately": round(part.rate, 2),
        "bad": whole.bad,
        "ended": whole.ended,
        "window_s": whole.window_s,
    }
    return finding(rule, subject, since(rule, snapshot, subject, snapshot.now_ns), summary, evidence)


def _unknown(rule: Rule, snapshot: Snapshot, told: set[str]) -> Iterator[Finding]:
    """Open alerts of which nobody can know whether they still hold."""
    blind = blind_sites(snapshot)
    for alert in open_alerts(rule, snapshot):
        if alert.fingerprint not in told and alert.subject.site in blind:
            yield again(alert, sure=False)


def _wanted(rule: Rule, run: Run) -> bool:
    return run.parent_span_id is None or bool(SUBJOBS.of(rule))


KINDS = (
    Kind(
        "failed", failed, "job", "a run of a job that does not run often ended badly",
        (SELDOM, SUBJOBS, LASTS), momentary=True,
    ),
    Kind("failure_rate", failure_rate, "job", "too many runs of a job fail", (RATIO, WINDOW, RUNS, BAD)),
    Kind(
        "new_error_type", new_error_type, "job", "a job fails in a way it never did",
        (SUBJOBS, LASTS), momentary=True,
    ),
    Kind("success_burn", success_burn, "job", "the error budget of a job burns too fast", (OBJECTIVE, RUNS, BAD, *FAST, *SLOW)),
)  # fmt: skip
