"""Runs that do not end: silent, lost, stuck, or left behind by the run they belong to.

In: a rule and a snapshot. Out: findings. Called by: `judges.judge`.

Runs are judged by their own feed's watermark (`runs.state`): while a feed is behind they are unknown, which opens nothing. A
process that dies takes its subjobs with it: one alert is about the outermost run. A run without a feed has no watermark: while
nothing was read of the store, its silence does not count.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterator, Mapping
from dataclasses import replace

from wafermonitor.alerting.judges.findings import (
    Lasting,
    finding,
    lasting,
    lasting_of,
    of_run,
    seconds,
    spoken,
    told_until,
)
from wafermonitor.alerting.judges.kinds import Kind, Limit
from wafermonitor.alerting.rules import Rule
from wafermonitor.alerting.snapshot import Snapshot
from wafermonitor.runs.alerts import Finding, Subject
from wafermonitor.runs.records import Run, RunKey
from wafermonitor.runs.state import State, clock_skew, last_sign, run_state

OVER = Limit("over_s", 1_800.0, "no progress for this long")
FACTOR = Limit("factor", 5.0, "and for so many times what one item took on average, where items are counted")
QUIET = Limit("over_s", 600.0, "a subjob of a run that ended gives no sign for this long")

_STATES = "states"
_WORSE = (State.RUNNING, State.UNKNOWN, State.SILENT, State.LOST)


def silent(rule: Rule, snapshot: Snapshot) -> Iterator[Finding]:
    """Runs that give no sign, and are not lost yet."""
    return _quiet(rule, snapshot, State.SILENT, "gives no sign")


def lost(rule: Rule, snapshot: Snapshot) -> Iterator[Finding]:
    """Runs that gave no sign for so long that they are gone; over with the next good run of the job, which began after it."""
    return _quiet(rule, snapshot, State.LOST, "is lost: no sign")


def progress_stalled(rule: Rule, snapshot: Snapshot) -> Iterator[Finding]:
    """Runs that are alive and report progress, which does not grow."""
    for run in snapshot.open_runs:
        moved_ns = snapshot.advanced.get(run.key)
        if moved_ns is None or run.progress is None or run.inferred:
            continue
        stuck_s = seconds(max(moved_ns, _back(run, snapshot)), told_until(run, snapshot))
        limit_s = max(OVER.of(rule), FACTOR.of(rule) * _per_item(run, moved_ns))
        sure = run_state(run, snapshot.feed(run), snapshot.now_ns, snapshot.limits) is State.RUNNING
        if stuck_s <= limit_s:
            if seconds(moved_ns, snapshot.now_ns) <= limit_s:
                continue
            sure = False
        ratio = "" if run.progress.ratio is None else f" at {run.progress.ratio:.0%}"
        at = f" ({run.progress.stage})" if run.progress.stage else ""
        summary = f"{run.job} of {run.site} makes no progress{ratio}{at} for {spoken(max(0.0, stuck_s))}"
        evidence = {"stalled_s": round(stuck_s, 1), "limit_s": round(limit_s, 1), "ratio": run.progress.ratio}
        yield finding(rule, of_run(run), moved_ns, summary, evidence, owner=run.owner, sure=sure)


def subjobs_left(rule: Rule, snapshot: Snapshot) -> Iterator[Finding]:
    """Subjobs that never ended although the run they belong to is not open any more."""
    open_keys = {run.key for run in snapshot.open_runs}
    left: dict[tuple[RunKey, str], list[tuple[Run, bool]]] = defaultdict(list)
    for run in snapshot.open_runs:
        if not _orphan(run, open_keys) or run.inferred:
            continue
        signed_ns, told_ns = _sign(run, snapshot), told_until(run, snapshot)
        sure = seconds(max(signed_ns, _back(run, snapshot)), told_ns) > QUIET.of(rule)
        if sure or seconds(signed_ns, snapshot.now_ns) > QUIET.of(rule):
            parent = RunKey(run.site, run.trace_id, run.parent_span_id or b"")
            left[parent, run.job or ""].append((run, sure))
    for (parent, job), several in sorted(left.items()):
        runs = [run for run, _ in several]
        subject = Subject(site=parent.site, job=job, run=parent)
        summary = f"{len(runs)} × {job} of {parent.site} never ended, though the run they belong to has"
        evidence = {"open": len(runs), "runs": sorted(run.key.id for run in runs)[:10]}
        since_ns = min(_sign(run, snapshot) for run in runs)
        yield finding(rule, subject, since_ns, summary, evidence, owner=runs[0].owner, sure=any(sure for _, sure in several))


def _quiet(rule: Rule, snapshot: Snapshot, wanted: State, verb: str) -> Iterator[Finding]:
    known, states = lasting(snapshot), _states(snapshot)
    for run in snapshot.open_runs:
        state = states[run.key]
        if state not in {wanted, State.UNKNOWN} or run.inferred or _orphan(run, states):
            continue
        if run.parent_span_id is not None and _gone_with(run, states):
            continue
        sign_ns = _sign(run, snapshot)
        if wanted is State.LOST and snapshot.mended.get(run.key, 0) > sign_ns:
            continue
        quiet_s = seconds(sign_ns, snapshot.now_ns)
        wish = lasting_of(run, known)
        summary = f"{run.job} of {run.site} {verb} for {spoken(max(0.0, quiet_s))}"
        interval_s = max(run.heartbeat_interval_s or 0.0, run.process_interval_s or 0.0)
        evidence = {"quiet_s": round(quiet_s, 1), "interval_s": interval_s, "feed": run.feed}
        owner = run.owner or wish.owner
        sure = state is wanted
        yield finding(rule, of_run(run), sign_ns, summary, evidence, owner=owner, runbook=wish.runbook, sure=sure)


def _states(snapshot: Snapshot) -> Mapping[RunKey, State]:
    """The state of every open run, worked out once for a snapshot."""
    if _STATES not in snapshot.memo:
        known = lasting(snapshot)
        snapshot.memo[_STATES] = {run.key: _state(run, snapshot, lasting_of(run, known)) for run in snapshot.open_runs}
    states: Mapping[RunKey, State] = snapshot.memo[_STATES]
    return states


def _state(run: Run, snapshot: Snapshot, wish: Lasting) -> State:
    """The run's state. Where nothing could be heard since its last sign: that before, and that by what was not heard since."""
    gap, sign_ns = snapshot.gap, last_sign(run)
    if gap is None or sign_ns is None or sign_ns >= _back(run, snapshot):
        return _state_of(run, snapshot, wish)
    before = _state_of(run, replace(snapshot, now_ns=gap.began_ns), wish)
    return max(before, _state_of(replace(run, last_sign_ns=gap.back_ns), snapshot, wish), key=_WORSE.index)


def _back(run: Run, snapshot: Snapshot) -> int:
    """Since when a run without a feed can be heard without a break, ns; 0 for others, whose watermark says it."""
    feed = snapshot.feed(run)
    return 0 if snapshot.gap is None or (feed is not None and feed.watermark_ns is not None) else snapshot.gap.back_ns


def _state_of(run: Run, snapshot: Snapshot, wish: Lasting) -> State:
    """The state by its last sign; one that is quiet for longer than its expectation allows is silent, whatever it announced."""
    state = run_state(run, snapshot.feed(run), snapshot.now_ns, snapshot.limits)
    if state is State.RUNNING and wish.silence_s is not None:
        if seconds(_sign(run, snapshot), told_until(run, snapshot)) > wish.silence_s:
            return State.SILENT
        if seconds(_sign(run, snapshot), snapshot.now_ns) > wish.silence_s + snapshot.limits.margin_s:
            return State.UNKNOWN
    return state


def _gone_with(run: Run, states: Mapping[RunKey, State]) -> bool:
    """Whether the run it belongs to gives no sign either."""
    parent = RunKey(run.site, run.trace_id, run.parent_span_id or b"")
    return states.get(parent) in {State.SILENT, State.LOST, State.UNKNOWN}


def _orphan(run: Run, open_keys: Container[RunKey]) -> bool:
    return run.parent_span_id is not None and RunKey(run.site, run.trace_id, run.parent_span_id) not in open_keys


def _sign(run: Run, snapshot: Snapshot) -> int:
    """When the run last gave a sign by the store's clock, ns."""
    feed, sign_ns = snapshot.feed(run), last_sign(run)
    if sign_ns is None:
        return run.received_ns if run.received_ns is not None else snapshot.now_ns
    return sign_ns + (clock_skew(feed) if feed is not None else 0)


def _per_item(run: Run, moved_ns: int) -> float:
    """What one item took on average, s; 0 where items are not counted."""
    if run.progress is None or not run.progress.completed or run.start_ns is None:
        return 0.0
    return max(0.0, seconds(run.start_ns, moved_ns)) / run.progress.completed


KINDS = (
    Kind("silent", silent, "run", "a run gives no sign for three of its intervals, or longer than its expectation allows"),
    Kind("lost", lost, "run", "a run gave no sign for ten of its intervals, five minutes at least"),
    Kind("progress_stalled", progress_stalled, "run", "a run that is alive makes no progress", (OVER, FACTOR)),
    Kind("subjobs_left", subjobs_left, "run", "a run ended and subjobs of it never did", (QUIET,)),
)
