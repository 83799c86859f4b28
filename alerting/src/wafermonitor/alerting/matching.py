"""Which expected runs have come, for all expectations at once: reads only the starts that may change a verdict.

In: what the evaluator read: expectations, feeds, changed runs. Out: expected runs as they stand, and what to store of them.
Called by: evaluator.

Feeds are read before starts, so that no start can arrive unseen before the watermark by which its absence is judged. What is
remembered between ticks (`Facts`) follows from stored runs and is forgotten when one of the job's runs changes.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from wafermonitor.alerting.awaiting import (
    DAY_NS,
    Told,
    assess,
    called,
    final,
    scheduled,
    started_ns,
    starts_of,
)
from wafermonitor.alerting.errors import AlertingRejected
from wafermonitor.alerting.expecting import After, Wish, loads
from wafermonitor.runs.alerts import Expectation, ExpectedRun
from wafermonitor.runs.expectations import ExpectedState, known_until, state_known
from wafermonitor.runs.records import Feed, Run
from wafermonitor.runs.state import SECOND_NS, Limits, clock_skew
from wafermonitor.storage.protocol import Reader, StartsWanted, StoredStart

Job = tuple[str | None, str]
"""(site, job); a site of None is every site."""
_PAST_RUNS = 50
_LEARNED_AT_ONCE = 1000
"""Jobs whose past one question asks for: what is answered stays known if the next one is not."""
_PAST_NS = 30 * DAY_NS
_JUDGED_QUIET = 10
_QUIET_FACTOR = 1.5
_LONGEST_LAG_NS = 3600 * SECOND_NS
_MOST_LOOKED = 2500
"""Groups that one tick looks at although nothing must be said of them now."""
MOST_MADE = 50_000
"""Expected runs that one tick makes of all expectations; what is left is made by the next ones. A tick that took too long to
store would be made anew for ever."""
_RETRY_NS = DAY_NS
_SAID = (ExpectedState.LATE, ExpectedState.MISSED, ExpectedState.UNKNOWN)
LONGEST_CALL_NS = 2 * DAY_NS
"""A run that ended longer ago calls for nothing any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What one tick knows. `changed`: runs that changed since the last tick; `complete`: all of them.

    `holds`: up to when feeds that were cut off lately had told for sure, by feed: runs that are told of by their span alone
    may still be on their way. `called`: which runs have called for others already (`call_of`).
    """

    now_ns: int
    limits: Limits
    feeds: Mapping[tuple[str, str], Feed]
    expectations: Sequence[Expectation]
    unsettled: Sequence[ExpectedRun]
    changed: Sequence[Run] = ()
    complete: bool = True
    holds: Mapping[tuple[str, str], int] = field(default_factory=dict)
    called: Container[str] = frozenset()


class Matched(NamedTuple):
    """`expected`: the unsettled and those that this tick settled. `stored`: those of them that changed. `faults`: by name.

    `called`: the calls of this tick, which the next one must know.
    """

    expected: list[ExpectedRun]
    stored: list[ExpectedRun]
    watched: dict[str, int]
    faults: dict[str, str]
    called: list[str]


class Facts(NamedTuple):
    """What past runs of a job tell: on which feeds it runs (None: it never ran), how long a run may stay unheard of.

    `ahead_ns`: how far the job's own clock is ahead of its feed's: by so much its runs ended in the future when they were told
    of, at most, because what is told late seems less far ahead.
    """

    feeds: frozenset[tuple[str, str]] | None
    unheard_ns: int = 0
    ahead_ns: int = 0


class Group(NamedTuple):
    """The unsettled runs of one expectation and subject, in order of nominal time."""

    expectation: Expectation
    wish: Wish
    subject: str
    rows: list[ExpectedRun]

    @property
    def job(self) -> Job:
        """Whose starts may meet them."""
        return self.expectation.site, self.expectation.job


class Matcher:
    """One for each evaluator; it may be used by one tick at a time."""

    def __init__(self, reader: Reader, *, catch_up_ns: int = 7 * DAY_NS) -> None:
        self._reader = reader
        self._catch_up_ns = catch_up_ns
        self._facts: dict[Job, Facts] = {}
        self._put_off: set[tuple[str, str]] = set()

    def forget(self) -> None:
        """Another process has evaluated meanwhile, or changes were lost: what is remembered may be old."""
        self._facts.clear()

    async def match(self, sight: Sight) -> Matched:
        """Make, match and judge the expected runs. Raises StorageUnavailable."""
        touched = _touched(sight.changed)
        for job in touched & self._facts.keys():
            del self._facts[job]
        book = _Book(sight, self._catch_up_ns)
        book.call(sight.changed if sight.complete else [*sight.changed, *await self._callers(book)])
        await self._learn(book.doubtful_jobs(), book)
        look, self._put_off = book.wanted(touched, self._facts, self._put_off)
        starts = await self._starts(look, book)
        for group in look:
            book.judge(group, starts[group.job], self._facts[group.job])
        return book.matched()

    async def _callers(self, book: _Book) -> list[Run]:
        """Runs that may have called for others while changes were lost."""
        jobs = list(book.calling_jobs())
        since_ns = book.sight.now_ns - LONGEST_CALL_NS
        found = await self._reader.starts([StartsWanted(*job, since_ns) for job in jobs]) if jobs else []
        return [_as_run(start) for starts in found for start in starts]

    async def _learn(self, jobs: Iterable[Job], book: _Book) -> None:
        lacking = [job for job in jobs if job not in self._facts]
        since_ns = book.sight.now_ns - _PAST_NS
        for first in range(0, len(lacking), _LEARNED_AT_ONCE):
            some = lacking[first : first + _LEARNED_AT_ONCE]
            found = await self._reader.starts([StartsWanted(*job, since_ns) for job in some], _PAST_RUNS)
            for job, runs in zip(some, found, strict=True):
                self._facts[job] = facts_of(runs, book.sight.feeds, book.told)

    async def _starts(self, groups: Sequence[Group], book: _Book) -> dict[Job, list[StoredStart]]:
        """The runs that may meet the groups' rows, by job; of a retry also the attempt before it."""
        since: dict[Job, int] = {}
        for group in groups:
            first_ns = group.rows[0].due.opens_ns - book.lead_ns
            since[group.job] = min(first_ns, since.get(group.job, first_ns))
        await self._learn(since, book)
        found = await self._read(since)
        retried = {job: since[job] - _RETRY_NS for job, runs in found.items() if _begins_with_retry(runs)}
        return found | await self._read(retried)

    async def _read(self, since: Mapping[Job, int]) -> dict[Job, list[StoredStart]]:
        if not since:
            return {}
        wanted = [StartsWanted(*job, from_ns) for job, from_ns in since.items()]
        return dict(zip(since, await self._reader.starts(wanted), strict=True))


def facts_of(runs: Sequence[StoredStart], feeds: Mapping[tuple[str, str], Feed], told: Mapping[tuple[str, str], int]) -> Facts:
    """What the newest runs of a job tell, in order of start; `told`: up to when each feed has told everything.

    After an outage a span may come before what announced it, so that only what its feed has told of all is quiet.
    """
    if not runs:
        return Facts(None)
    on = frozenset((run.key.site, run.feed) for run in runs if run.feed is not None)
    ahead_ns = max(0, *(_ahead_ns(run, feeds) for run in runs))
    quiet = [_is_quiet(run, feeds, told, ahead_ns) for run in runs]
    if not any(quiet[-_JUDGED_QUIET:]):
        return Facts(on, 0, ahead_ns)
    taken, lags = [0], [0]
    for run, is_quiet in zip(runs, quiet, strict=True):
        if not is_quiet or run.start_ns is None or run.end_ns is None:
            continue
        taken.append(run.end_ns - run.start_ns)
        start_ns = started_ns(run, run.key.site, run.feed, feeds)
        if start_ns is not None and run.received_ns is not None:
            lags.append(min(_LONGEST_LAG_NS, run.received_ns - start_ns - taken[-1]))
    return Facts(on, round(_QUIET_FACTOR * max(taken)) + max(lags), ahead_ns)


def _ahead_ns(run: StoredStart, feeds: Mapping[tuple[str, str], Feed]) -> int:
    """How far in the future the last thing was that `run` told, when that arrived."""
    said_ns = run.start_ns if run.end_ns is None else run.end_ns
    if said_ns is None or run.received_ns is None:
        return 0
    feed = None if run.feed is None else feeds.get((run.key.site, run.feed))
    return said_ns + (0 if feed is None else clock_skew(feed)) - run.received_ns


def _is_quiet(
    run: StoredStart, feeds: Mapping[tuple[str, str], Feed], told: Mapping[tuple[str, str], int], ahead_ns: int
) -> bool:
    """Whether nothing announced it, and nothing that announces it may still come."""
    feed = None if run.feed is None else feeds.get((run.key.site, run.feed))
    if run.announced or run.end_ns is None or feed is None:
        return not run.announced
    ahead_ns = ahead_ns if _ahead_ns(run, feeds) > 0 else 0
    return run.end_ns + clock_skew(feed) - ahead_ns <= told[run.key.site, feed.feed]


class _Book:
    """The expected runs of one tick, by expectation and subject."""

    def __init__(self, sight: Sight, catch_up_ns: int) -> None:
        self.sight = sight
        self.lead_ns = max((max(0, clock_skew(feed)) for feed in sight.feeds.values()), default=0)
        """How far the clock of any feed is behind: what it calls earlier may be in time."""
        self._margin_ns = round(sight.limits.margin_s * SECOND_NS)
        self.told: dict[tuple[str, str], int] = {
            key: known_until([feed], sight.now_ns, sight.limits) for key, feed in sight.feeds.items()
        }
        """Up to when each feed has told everything."""
        self._expectations = {one.name: one for one in sight.expectations}
        self._groups: dict[tuple[str, str], Group] = {}
        self._fresh: set[tuple[str, str]] = set()
        self._stored: dict[tuple[str, str, int], ExpectedRun] = {}
        self._left: list[ExpectedRun] = []
        self._watched: dict[str, int] = {}
        self._called: list[str] = []
        self._faults: dict[str, str] = {}
        self._wishes = self._read_wishes()
        for row in sight.unsettled:
            self._enter(row)
        for name, wish in self._wishes.items():
            self._follow_schedule(self._expectations[name], wish, catch_up_ns)

    def calling_jobs(self) -> set[Job]:
        """Jobs whose runs call for others."""
        wishes = ((self._expectations[name].site, wish.schedule) for name, wish in self._wishes.items())
        return {(site, schedule.job) for site, schedule in wishes if isinstance(schedule, After)}

    def call(self, runs: Iterable[Run]) -> None:
        """Make the runs that `runs` call for, each once, although a run changes more than once."""
        after: dict[str, list[str]] = defaultdict(list)
        for name, wish in self._wishes.items():
            if isinstance(wish.schedule, After):
                after[wish.schedule.job].append(name)
        oldest_ns = self.sight.now_ns - LONGEST_CALL_NS
        for run in runs if after else ():
            for name in after.get(run.job or "", ()):
                call = call_of(name, run)
                if call in self.sight.called or call in self._called:
                    continue
                rows = called(self._expectations[name], self._wishes[name], run, self.sight.feeds, self.sight.now_ns)
                for row in rows:
                    if row.due.nominal_ns >= oldest_ns:
                        self.add(row)
                if rows:
                    self._called.append(call)

    def add(self, row: ExpectedRun) -> None:
        """One more expected run, which is stored."""
        self._enter(row)
        self._fresh.add((row.expectation, row.subject))
        self._stored[row.expectation, row.subject, row.due.nominal_ns] = row

    def doubtful_jobs(self) -> Iterator[Job]:
        """Jobs of which a run should have come by now, or is about to be settled."""
        now_ns = self.sight.now_ns - self._margin_ns
        for group in self._groups.values():
            row = group.rows[0]
            if now_ns > row.due.late_ns and (row.start_ns is None or now_ns > row.start_ns):
                yield group.job

    def wanted(
        self, touched: set[Job], facts: Mapping[Job, Facts], put_off: set[tuple[str, str]]
    ) -> tuple[list[Group], set[tuple[str, str]]]:
        """The groups whose starts must be read now, and those that may wait for the next tick.

        At once: where time changes what is said, or what was said to be late or missed may have come. Of the others, of
        which a run changed, and of those that can be settled, as many as there is time for.
        """
        urgent: list[Group] = []
        rest: list[Group] = []
        settle: list[Group] = []
        now_ns = self.sight.now_ns
        for key, group in self._groups.items():
            if group.rows[0].due.opens_ns > now_ns:
                continue
            known = facts.get(group.job)
            told = None if known is None else self._told_of(group, known)
            if told is not None and any(self._changes(row, told) for row in group.rows):
                urgent.append(group)
            elif key in self._fresh or group.job in touched or key in put_off or not self.sight.complete:
                (urgent if any(row.state in _SAID for row in group.rows) else rest).append(group)
            elif told is not None and final(group.rows[0], group.rows[1].due if len(group.rows) > 1 else None, told.heard_ns):
                settle.append(group)
        room = max(0, _MOST_LOOKED - len(rest))
        left = {(group.expectation.name, group.subject) for group in rest[_MOST_LOOKED:]}
        return urgent + rest[:_MOST_LOOKED] + settle[:room], left

    def judge(self, group: Group, found: Sequence[StoredStart], facts: Facts) -> None:
        """Match and judge one group."""
        event = isinstance(group.wish.schedule, After)
        lot = group.subject if event else ""
        starts = starts_of(found, self.sight.feeds, lot=lot, nominal=not event, ahead_ns=facts.ahead_ns)
        now = assess(group.rows, starts, self._told_of(group, facts), self.sight.now_ns, self.sight.limits)
        for before, row in zip(group.rows, now, strict=True):
            if row != before:
                self._stored[row.expectation, row.subject, row.due.nominal_ns] = row
        group.rows[:] = now

    def matched(self) -> Matched:
        """What became of it."""
        expected = [row for group in self._groups.values() for row in group.rows]
        return Matched(expected + self._left, list(self._stored.values()), self._watched, self._faults, self._called)

    def _read_wishes(self) -> dict[str, Wish]:
        wishes = {}
        for expectation in self.sight.expectations:
            try:
                wishes[expectation.name] = loads(expectation.spec)
            except AlertingRejected as error:
                self._faults[expectation.name] = str(error)
        return wishes

    def _enter(self, row: ExpectedRun) -> None:
        wish = self._wishes.get(row.expectation)
        if wish is None:
            self._left.append(row)  # its expectation cannot be read: it stays as it is
            return
        group = self._groups.get((row.expectation, row.subject))
        if group is None:
            group = Group(self._expectations[row.expectation], wish, row.subject, [])
            self._groups[row.expectation, row.subject] = group
        group.rows.append(row)

    def _follow_schedule(self, expectation: Expectation, wish: Wish, catch_up_ns: int) -> None:
        now_ns = self.sight.now_ns
        if isinstance(wish.schedule, After) or expectation.watched_ns > now_ns + DAY_NS or len(self._stored) >= MOST_MADE:
            return
        group = self._groups.get((expectation.name, ""))
        if group is not None and group.rows[-1].due.opens_ns > now_ns:
            return
        try:
            rows, watched_ns = scheduled(expectation, wish, now_ns, catch_up_ns)
        except AlertingRejected as error:
            self._faults[expectation.name] = str(error)
            return
        for row in rows:
            self.add(row)
        if watched_ns != expectation.watched_ns:
            self._watched[expectation.name] = watched_ns

    def _changes(self, row: ExpectedRun, told: Told) -> bool:
        """Whether time alone makes another state of it."""
        if row.start_ns is not None or row.state is ExpectedState.MISSED or self.sight.now_ns <= row.due.late_ns:
            return False
        now = state_known(row.due, None, told.until_ns, self.sight.now_ns, self.sight.limits, unheard_ns=told.unheard_ns)
        return now is not row.state

    def _told_of(self, group: Group, facts: Facts) -> Told:
        """How far the feeds have told on which the job runs; of one that never ran, those of its site."""
        site = group.expectation.site
        feeds = facts.feeds if facts.feeds is not None else [key for key in self.told if site in {None, key[0]}]
        until_ns = min((self.told[key] for key in feeds if key in self.told), default=self.sight.now_ns - self._margin_ns)
        if not facts.unheard_ns:
            return Told(until_ns)
        until_ns = min([until_ns, *(self.sight.holds[key] for key in feeds if key in self.sight.holds)])
        longest_ns = round((group.wish.max_duration_s or 0.0) * SECOND_NS)
        return Told(until_ns, max(facts.unheard_ns, longest_ns))


def call_of(name: str, run: Run) -> str:
    """What tells that `run` has called for a run of the expectation `name`: 16 hex digits."""
    return hashlib.sha256(f"{name}\0{run.site}\0{run.key.id}".encode()).hexdigest()[:16]


def _as_run(start: StoredStart) -> Run:
    """As much of the run as calling needs."""
    return Run(
        site=start.key.site,
        trace_id=start.key.trace_id,
        span_id=start.key.span_id,
        job=start.job,
        feed=start.feed,
        start_ns=start.start_ns,
        end_ns=start.end_ns,
        end_rank=int(start.end_ns is not None),
        result=start.result,
        lot_ids=start.lot_ids,
        received_ns=start.received_ns,
    )


def _touched(changed: Iterable[Run]) -> set[Job]:
    jobs: set[Job] = set()
    for run in changed:
        if run.job is not None:
            jobs.add((run.site, run.job))
            jobs.add((None, run.job))
    return jobs


def _begins_with_retry(runs: Sequence[StoredStart]) -> bool:
    """Whether there is a second attempt whose first is not among `runs`."""
    seen = set()
    for run in runs:
        if run.attempt is not None and run.attempt > 1 and run.run_id not in seen:
            return True
        seen.add(run.run_id)
    return False
