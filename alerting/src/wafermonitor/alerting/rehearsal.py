"""What would have fired: rules and expectations played over stored history, by the judges that the evaluator asks.

In: the runs of a stretch of time, rules, expectations. Out: `Rehearsed`: each alert with when it would have opened and ended.
Called by: `wafer alerting test`, tests.

History has the runs and not how they became known: a run counts as known from its start (from its end where it announced
nothing), as alive until its end, and every feed as in time. So rules about feeds, the store and this machine cannot be
rehearsed (`NOT_REHEARSED`), nor can progress that stalled. Times are true to a step; what is late or missed is exact.
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_right
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from wafermonitor.alerting.awaiting import called, starts_of, wait
from wafermonitor.alerting.errors import AlertingRejected
from wafermonitor.alerting.expecting import After, Wish, loads
from wafermonitor.alerting.judges import judge
from wafermonitor.alerting.judges.findings import LASTING, lastings
from wafermonitor.alerting.reconciling import reconcile
from wafermonitor.alerting.rules import Rule
from wafermonitor.alerting.schedule import ticks
from wafermonitor.alerting.snapshot import JobKey, Snapshot
from wafermonitor.runs.alerts import Alert, Expectation, ExpectedRun, Finding
from wafermonitor.runs.bands import Profile, profile
from wafermonitor.runs.expectations import ExpectedState
from wafermonitor.runs.pairing import Start, pair
from wafermonitor.runs.records import Run
from wafermonitor.runs.state import BAD_RESULTS, SECOND_NS, Limits
from wafermonitor.storage import pasts
from wafermonitor.storage.protocol import PastRun, Tally

NOT_REHEARSED = frozenset({
    "feed_behind", "ingestion_lag", "clock_wrong", "database", "archive_stopped", "maintenance_stopped", "disk", "certificate",
    "evaluator", "progress_stalled",
})  # fmt: skip
"""Kinds of rules of which history tells nothing."""
MOST_TICKS = 10_000
_STEPS_S = (10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0)
_PROFILE_RUNS = 200
_DAY_NS = 86_400 * SECOND_NS
_CHUNK = 100


class Rehearsed(NamedTuple):
    """`fired`: every alert that would have opened, oldest first; one that is open at the end has no `resolved_ns`."""

    fired: list[Alert]
    ticks: int
    step_s: float
    runs: int
    left_out: tuple[str, ...]


class _Awaited(NamedTuple):
    """One expected run, which run met it (by hindsight), and when its successor opens, ns."""

    row: ExpectedRun
    start_ns: int | None
    next_ns: int | None


def step_for(from_ns: int, to_ns: int) -> float:
    """A step, s, that plays the range in at most MOST_TICKS."""
    wanted = (to_ns - from_ns) / SECOND_NS / MOST_TICKS
    return next((step for step in _STEPS_S if step >= wanted), wanted)


def rehearse(
    runs: Sequence[Run],
    rules: Sequence[Rule],
    expectations: Sequence[Expectation],
    *,
    from_ns: int,
    to_ns: int,
    step_s: float | None = None,
    limits: Limits | None = None,
) -> Rehearsed:
    """Play [from_ns, to_ns). `runs`: those that started then, and for some time before, from which is learnt what is usual."""
    if to_ns <= from_ns:
        raise AlertingRejected("the end of the rehearsal is before its beginning: expected --from before --to")
    step_s = step_for(from_ns, to_ns) if step_s is None else step_s
    stage = _Stage(runs, expectations, limits or Limits(), from_ns, to_ns)
    asked = {rule.name: rule for rule in rules if rule.kind not in NOT_REHEARSED}
    left_out = tuple(sorted(rule.name for rule in rules if rule.kind in NOT_REHEARSED))
    fired = _play(stage, asked, from_ns, to_ns, round(step_s * SECOND_NS))
    return Rehearsed(fired, -(-(to_ns - from_ns) // round(step_s * SECOND_NS)), step_s, len(runs), left_out)


def _play(stage: _Stage, rules: Mapping[str, Rule], from_ns: int, to_ns: int, step_ns: int) -> list[Alert]:
    alerts: list[Alert] = []
    holding: dict[str, tuple[str, int]] = {}
    fired: dict[str, Alert] = {}
    last_asked: dict[str, int] = {}
    for before_ns, now_ns in pairwise((from_ns - step_ns, *stage.moments(from_ns, to_ns, step_ns))):
        snapshot = stage.at(now_ns, before_ns, alerts)
        found: dict[str, list[Finding]] = {}
        for name, rule in rules.items():
            if now_ns - last_asked.get(name, -to_ns) >= rule.every_s * SECOND_NS:
                last_asked[name] = now_ns
                found[name] = judge(rule, snapshot)
        after = reconcile(rules, found, alerts, holding, now_ns)
        alerts, holding = after.open_alerts, after.holding
        fired |= {alert.id: alert for alert in after.opened}
        for alert in after.resolved:
            fired[alert.id] = fired[alert.id]._replace(resolved_ns=now_ns)  # told as it was when it opened
    return sorted(fired.values(), key=lambda alert: (alert.opened_ns, alert.rule, alert.subject.key))


class _Stage:
    """What is known at each moment of the rehearsal; moments come in the order of time."""

    def __init__(
        self, runs: Sequence[Run], expectations: Sequence[Expectation], limits: Limits, from_ns: int, to_ns: int
    ) -> None:
        self._limits = limits
        timed = [(begin, run) for run in runs if (begin := _known_from(run)) is not None]
        self._coming = deque(run for _, run in sorted(timed, key=lambda pair: (pair[0], pair[1].key)))
        self._going: dict[tuple[str, str], Run] = {}
        self._ending = deque(sorted((run for run in runs if run.end_ns is not None), key=_end_of))
        self._past = _Past()
        self._windows: dict[tuple[float, float], _Window] = {}
        self._seen_ended: list[Run] = []
        self._expectations = {one.name: one for one in expectations}
        self._lasting = lastings(expectations)
        awaited = list(_awaited(runs, expectations, from_ns, to_ns))
        self._awaited = deque(_troubled(awaited))
        self._absent: list[_Awaited] = []
        self._came: list[ExpectedRun] = []
        met = ((one.start_ns, one.row) for one in awaited if one.start_ns is not None)
        self._met = deque(sorted(met, key=lambda one: one[0]))
        self._move(from_ns)

    def moments(self, from_ns: int, to_ns: int, step_ns: int) -> list[int]:
        """When to look: each step, and when it can first be said that a run is late or missed."""
        margin_ns = round(self._limits.margin_s * SECOND_NS) + 1
        exact = {at_ns + margin_ns for one in self._awaited for at_ns in (one.row.due.late_ns, one.row.due.missed_ns)}
        return sorted({*range(from_ns, to_ns, step_ns), *(at_ns for at_ns in exact if from_ns <= at_ns < to_ns)})

    def at(self, now_ns: int, before_ns: int, alerts: Sequence[Alert]) -> Snapshot:
        """Everything up to `now_ns`; the look before it was at `before_ns`."""
        ended = self._move(now_ns)
        return Snapshot(
            now_ns=now_ns,
            ticked_ns=before_ns,
            limits=self._limits,
            open_runs=list(self._going.values()),
            ended=ended,
            expectations=self._expectations,
            expected=self._expected(now_ns, before_ns),
            alerts={alert.fingerprint: alert for alert in alerts},
            profiles=_Profiles(self._past, before_ns),
            tallies=lambda window_s, ago_s=0.0: self._tallies(window_s, ago_s, now_ns),
            memo={LASTING: self._lasting},
        )

    def _move(self, now_ns: int) -> list[Run]:
        while self._coming and (_known_from(self._coming[0]) or 0) <= now_ns:
            run = self._coming.popleft()
            self._going[_key(run)] = _as_going(run)
        ended = []
        while self._ending and _end_of(self._ending[0]) <= now_ns:
            run = self._ending.popleft()
            self._going.pop(_key(run), None)
            self._past.add(run)
            self._seen_ended.append(run)
            ended.append(run)
        return ended

    def _expected(self, now_ns: int, before_ns: int) -> list[ExpectedRun]:
        known_ns = now_ns - round(self._limits.margin_s * SECOND_NS)
        while self._awaited and self._awaited[0].row.due.late_ns < known_ns:
            self._absent.append(self._awaited.popleft())
        margin_ns = now_ns - known_ns
        self._absent = [one for one in self._absent if not _is_over(one, now_ns, before_ns - margin_ns)]
        rows = [_as_of(one, known_ns) for one in self._absent]
        self._came = [row for row in self._came if before_ns <= max(row.due.late_ns, row.start_ns or 0)]
        while self._met and self._met[0][0] <= now_ns:
            start_ns, row = self._met.popleft()
            self._came.append(row._replace(state=ExpectedState.MET, start_ns=start_ns))
        return rows + self._came

    def _tallies(self, window_s: float, ago_s: float, now_ns: int) -> Sequence[Tally]:
        window = self._windows.setdefault((window_s, ago_s), _Window(window_s))
        return window.at(self._seen_ended, now_ns - round(ago_s * SECOND_NS))


class _Past:
    """What runs that ended tell of the next, by job."""

    def __init__(self) -> None:
        self._runs: dict[JobKey, list[PastRun]] = defaultdict(list)
        self._ends: dict[JobKey, list[int]] = defaultdict(list)
        self._errors: dict[JobKey, dict[str, int]] = defaultdict(dict)
        self._made: dict[JobKey, tuple[int, Profile]] = {}

    def add(self, run: Run) -> None:
        """One more that ended; they come in the order of their ends."""
        past = pasts.past_of(run)
        if past is None or run.job is None:
            return
        key = run.site, run.job
        self._ends[key].append(_end_of(run))
        if run.error_type is not None:
            self._errors[key].setdefault(run.error_type, _end_of(run))
        self._runs[key].append(past)

    def profile(self, key: JobKey, before_ns: int) -> Profile | None:
        """What was usual at `before_ns`; made anew each day, kinds of errors always."""
        made_ns, made = self._made.get(key, (0, None))
        if made is None or before_ns - made_ns >= _DAY_NS:
            until = bisect_right(self._ends.get(key, []), before_ns)
            if not until:
                return None
            made = profile(self._runs[key][max(0, until - _PROFILE_RUNS) : until], before_ns)
            self._made[key] = before_ns, made
        return made._replace(error_types=frozenset(name for name, at_ns in self._errors[key].items() if at_ns <= before_ns))


class _Profiles(Mapping[JobKey, Profile]):
    """Profiles as of one moment, each made when it is asked for."""

    def __init__(self, past: _Past, before_ns: int) -> None:
        self._past, self._before_ns = past, before_ns

    def __getitem__(self, key: JobKey) -> Profile:
        made = self._past.profile(key, self._before_ns)
        if made is None:
            raise KeyError(key)
        return made

    def __iter__(self) -> Iterator[JobKey]:
        return iter(())

    def __len__(self) -> int:
        return 0


class _Window:
    """How many runs of each job ended in the last `window_s`, kept as time goes on."""

    def __init__(self, window_s: float) -> None:
        self._length_ns = round(window_s * SECOND_NS)
        self._first = self._next = 0
        self._counts: dict[str, Counter[JobKey]] = {name: Counter() for name in ("ended", "bad", "late")}
        self._tallies: list[Tally] | None = []

    def at(self, ended: Sequence[Run], now_ns: int) -> Sequence[Tally]:
        """The tallies; `ended` are all runs that ended up to `now_ns` and perhaps later, in that order."""
        while self._next < len(ended) and _end_of(ended[self._next]) <= now_ns:
            self._count(ended[self._next], 1)
            self._next += 1
        while self._first < self._next and _end_of(ended[self._first]) <= now_ns - self._length_ns:
            self._count(ended[self._first], -1)
            self._first += 1
        if self._tallies is None:
            counts, bad, late = (self._counts[name] for name in ("ended", "bad", "late"))
            self._tallies = [Tally(*key, count, bad[key], late[key]) for key, count in counts.items() if count]
        return self._tallies

    def _count(self, run: Run, sign: int) -> None:
        key = run.site, run.job or ""
        self._tallies = None
        self._counts["ended"][key] += sign
        self._counts["bad"][key] += sign * (run.result in BAD_RESULTS)
        self._counts["late"][key] += sign * (run.deadline_ns is not None and (run.end_ns or 0) > run.deadline_ns)


def _awaited(runs: Sequence[Run], expectations: Sequence[Expectation], from_ns: int, to_ns: int) -> Iterator[_Awaited]:
    """Every expected run of the range with the run that met it."""
    by_job: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        if run.job is not None and run.start_ns is not None:
            by_job[run.job].append(run)
    for several in by_job.values():
        several.sort(key=lambda run: run.start_ns or 0)
    for expectation in expectations:
        wish = loads(expectation.spec)
        mine = [pasts.start_of(run) for run in by_job[expectation.job] if expectation.site in {None, run.site}]
        for subject, rows in _rows(expectation, wish, by_job, from_ns, to_ns).items():
            event = isinstance(wish.schedule, After)
            starts = starts_of(mine, {}, lot=subject if event else "", nominal=not event)
            yield from _paired(rows, starts, to_ns)


def _rows(
    expectation: Expectation, wish: Wish, by_job: Mapping[str, Sequence[Run]], from_ns: int, to_ns: int
) -> dict[str, list[ExpectedRun]]:
    """By subject the runs that the schedule or its callers call for, in order of time."""
    rows: dict[str, list[ExpectedRun]] = defaultdict(list)
    schedule = wish.schedule
    if not isinstance(schedule, After):
        for begin_ns in range(from_ns, to_ns, _DAY_NS):
            nominals = ticks(schedule, begin_ns, min(to_ns, begin_ns + _DAY_NS), wish.calendar)
            rows[""] += wait(expectation, wish, nominals, begin_ns)
        return rows
    for caller in by_job.get(schedule.job, ()):
        for row in called(expectation, wish, caller, {}, to_ns):
            if from_ns <= row.due.nominal_ns < to_ns:
                rows[row.subject].append(row)
    for several in rows.values():
        several.sort(key=lambda row: row.due.nominal_ns)
    return rows


def _paired(rows: Sequence[ExpectedRun], starts: Sequence[Start], to_ns: int) -> Iterator[_Awaited]:
    """Each row with its start. Paired in pieces: a whole month of a job of every minute would be a table of a billion."""
    begins = [start.start_ns for start in starts]
    for first in range(0, len(rows), _CHUNK):
        some = rows[first : first + _CHUNK]
        following = rows[first + _CHUNK] if first + _CHUNK < len(rows) else None
        until_ns = to_ns if following is None else following.due.opens_ns - 1
        mine = starts[bisect_right(begins, some[0].due.opens_ns - 1) : bisect_right(begins, until_ns)]
        nexts = [*(row.due.opens_ns for row in some[1:]), None if following is None else following.due.opens_ns]
        for row, start, next_ns in zip(some, pair([row.due for row in some], mine, until_ns), nexts, strict=True):
            yield _Awaited(row, None if start is None else start.start_ns, next_ns)


def _troubled(awaited: Sequence[_Awaited]) -> list[_Awaited]:
    """Those that were late or did not come, in order of when that could be said."""
    late = (one for one in awaited if one.start_ns is None or one.start_ns > one.row.due.late_ns)
    return sorted(late, key=lambda one: one.row.due.late_ns)


def _is_over(one: _Awaited, now_ns: int, told_ns: int) -> bool:
    """Whether its run came, or its successor's time has come since it was told of as missed; `told_ns`: up to when was told."""
    if one.start_ns is not None and one.start_ns <= now_ns:
        return True
    following_ns = one.row.due.missed_ns + _DAY_NS if one.next_ns is None else one.next_ns
    return told_ns > max(one.row.due.missed_ns, following_ns)


def _as_of(one: _Awaited, known_ns: int) -> ExpectedRun:
    state = ExpectedState.MISSED if known_ns > one.row.due.missed_ns else ExpectedState.LATE
    return one.row._replace(state=state)


def _known_from(run: Run) -> int | None:
    """Since when it is known of; None: only its end was."""
    if run.ended and not pasts.announced(run):
        return None
    return run.received_ns if run.start_ns is None else run.start_ns


def _as_going(run: Run) -> Run:
    """The run before its end. One that ended was alive until then; what it had become by then is not known."""
    if not run.ended:
        return run
    return dataclasses.replace(
        run, end_rank=0, end_ns=None, result=None, error_type=None, progress=None, memory_bytes=None, cpu_s=None,
        heartbeat_interval_s=None, process_interval_s=None, received_ns=None, inferred=False,
    )  # fmt: skip


def _end_of(run: Run) -> int:
    return run.end_ns or 0


def _key(run: Run) -> tuple[str, str]:
    return run.site, run.key.id
