"""The runs that an expectation waits for: made from its schedule or its caller, matched, judged, settled. All of it is pure.

In: an `Expectation` with its `Wish`, its unsettled expected runs, the starts of its job, how far the job's feeds have told.
Out: expected runs as they stand now. Called by: matching (for the evaluator), rehearsal.

The verdict on an absence is never taken back by time, only by a run. What is settled is never looked at again: everything that
could meet it has been told, and no other expected run has a claim to its run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from wafermonitor.alerting.expecting import After, Wish
from wafermonitor.alerting.schedule import ticks
from wafermonitor.runs.alerts import Expectation, ExpectedRun
from wafermonitor.runs.expectations import Expected, ExpectedState, Started, state_known, true_start
from wafermonitor.runs.pairing import Start, first_attempts, pair
from wafermonitor.runs.records import Feed, Run
from wafermonitor.runs.state import SECOND_NS, Limits, clock_skew
from wafermonitor.storage.protocol import StoredStart

DAY_NS = 86_400 * SECOND_NS
LOOK_AHEAD_NS = 2 * DAY_NS
"""The next expected run is made when it is due within this time, so that people see what comes."""
MOST_MADE = 500
"""Expected runs of one expectation that one tick makes; what is left is made by the next tick."""
MOST_WAITING = 200
"""Unsettled runs of one expectation; of more, the oldest are settled by the verdict that they have, if they have one."""
_SLICE, _AHEAD = 200, 50
"""So many expected runs are paired at once, with a look at so many that follow: the cost of pairing grows by the square."""
_AHEAD_NS = (120 * SECOND_NS, 3600 * SECOND_NS, DAY_NS, LOOK_AHEAD_NS)
_ABSENT = (ExpectedState.LATE, ExpectedState.MISSED)
_VERDICTS = (ExpectedState.MET, ExpectedState.MISSED)

Feeds = Mapping[tuple[str, str], Feed]


class Told(NamedTuple):
    """How far the feeds of a job have told: everything up to `until_ns`, runs that announce nothing `unheard_ns` less."""

    until_ns: int
    unheard_ns: int = 0

    @property
    def heard_ns(self) -> int:
        """Every run that started up to then has been heard of."""
        return self.until_ns - self.unheard_ns


def due(wish: Wish, nominal_ns: int) -> Expected:
    """When a run of `wish` with this nominal time counts as early, late, missed."""
    schedule = wish.schedule
    late_ns = nominal_ns + _ns(schedule.within_s if isinstance(schedule, After) else wish.start_margin_s)
    return Expected(nominal_ns, nominal_ns - _ns(wish.early_s), late_ns, late_ns + _ns(wish.grace_s))


def waits(expectation: Expectation, wish: Wish, nominal_ns: int, now_ns: int, subject: str = "") -> ExpectedRun:
    """A new expected run."""
    state = ExpectedState.EXPECTED
    return ExpectedRun(
        expectation.name, expectation.site, expectation.job, subject, due(wish, nominal_ns), state, changed_ns=now_ns
    )


def wait(expectation: Expectation, wish: Wish, nominals: Sequence[int], now_ns: int) -> list[ExpectedRun]:
    """New expected runs of a schedule, in order of time.

    None opens before the middle between it and the one before: a job of every minute would else begin each run within the
    time of the next, and nothing would ever be sure.
    """
    schedule, early_ns = wish.schedule, _ns(wish.early_s)
    rows = [waits(expectation, wish, nominal_ns, now_ns) for nominal_ns in nominals]
    if isinstance(schedule, After) or not rows:
        return rows
    back_ns = min(2 * early_ns, DAY_NS)
    before = ticks(schedule, nominals[0] - back_ns, nominals[0], wish.calendar)[-1:] or [nominals[0] - 2 * early_ns]
    for index, previous_ns in enumerate([*before, *nominals[:-1]]):
        opens_ns = nominals[index] - min(early_ns, (nominals[index] - previous_ns) // 2)
        if opens_ns != rows[index].due.opens_ns:
            rows[index] = rows[index]._replace(due=rows[index].due._replace(opens_ns=opens_ns))
    return rows


def scheduled(
    expectation: Expectation, wish: Wish, now_ns: int, catch_up_ns: int = 7 * DAY_NS
) -> tuple[list[ExpectedRun], int]:
    """The runs that its schedule calls for since it was watched last, and the first one to come; and its new `watched_ns`.

    What is longer ago than `catch_up_ns` is not made any more. ScheduleRejected where the schedule cannot be followed.
    """
    schedule = wish.schedule
    if isinstance(schedule, After):
        return [], expectation.watched_ns
    at_ns = max(expectation.watched_ns, expectation.since_ns, now_ns - catch_up_ns)
    opens_ns = now_ns + _ns(wish.early_s) + 1
    nominals: list[int] = []
    while at_ns < opens_ns:
        until_ns = min(opens_ns, at_ns + DAY_NS)
        nominals += ticks(schedule, at_ns, until_ns, wish.calendar)
        at_ns = until_ns
        if len(nominals) > MOST_MADE:
            del nominals[MOST_MADE:]
            return wait(expectation, wish, nominals, now_ns), nominals[-1] + 1
    for ahead_ns in _AHEAD_NS:
        until_ns = opens_ns + ahead_ns
        coming = ticks(schedule, at_ns, until_ns, wish.calendar) if at_ns < until_ns else []
        if coming:
            return wait(expectation, wish, [*nominals, coming[0]], now_ns), coming[0] + 1
        at_ns = max(at_ns, until_ns)
    return wait(expectation, wish, nominals, now_ns), at_ns


def called(expectation: Expectation, wish: Wish, caller: Run, feeds: Feeds, now_ns: int) -> list[ExpectedRun]:
    """The runs that a run of the job calls for after which `wish` wants one: one for each lot, or one."""
    schedule = wish.schedule
    if not isinstance(schedule, After) or caller.job != schedule.job or expectation.site not in {None, caller.site}:
        return []
    feed = None if caller.feed is None else feeds.get((caller.site, caller.feed))
    if schedule.on == "start":
        nominal_ns = true_start(caller, feed)
    elif caller.ended and caller.result == "success" and caller.end_ns is not None:
        nominal_ns = caller.end_ns + (clock_skew(feed) if feed is not None else 0)
    else:
        nominal_ns = None
    if nominal_ns is None or nominal_ns < expectation.since_ns:
        return []
    nominal_ns = min(nominal_ns, now_ns)
    if wish.calendar.leaves_out(nominal_ns):
        return []
    subjects = (caller.lot_ids if schedule.same_lot else None) or ("",)
    return [waits(expectation, wish, nominal_ns, now_ns, subject) for subject in dict.fromkeys(subjects)]


def starts_of(
    found: Sequence[StoredStart], feeds: Feeds, *, lot: str = "", nominal: bool = True, ahead_ns: int = 0
) -> list[Start]:
    """What may meet an expected run: starts by the store's clock, attempts of one run named alike; only those of `lot`.

    An attempt after the first belongs to the run of its run id before it; without one, its own start counts. `nominal` False:
    for which time a run says that it was scheduled is left out, because the schedule is not of times. A start from the future
    is put back by `ahead_ns`.
    """
    timed = []
    for run in found:
        if not lot or lot in run.lot_ids:
            start_ns = started_ns(run, run.key.site, run.feed, feeds, ahead_ns)
            if start_ns is not None:
                timed.append((start_ns, run.key, run))
    timed.sort(key=lambda one: one[:2])
    turns: dict[str, int] = {}
    starts = []
    for start_ns, key, run in timed:
        occasion = None
        if run.run_id is not None:
            turns[run.run_id] = turns.get(run.run_id, 0) + (run.attempt is None or run.attempt <= 1)
            occasion = f"{run.run_id}#{turns[run.run_id]}"
        starts.append(Start(start_ns, run.nominal_ns if nominal else None, occasion, key))
    return starts


def started_ns(run: Started, site: str, feed: str | None, feeds: Feeds, ahead_ns: int = 0) -> int | None:
    """When a run started by the store's clock; `ahead_ns`: how far its job's own clock is known to be ahead.

    What arrived says no more than that it had started by then, which after an outage is far too late.
    """
    known = None if feed is None else feeds.get((site, feed))
    start_ns = true_start(run, known)
    if start_ns is None or run.start_ns is None or run.received_ns is None:
        return start_ns
    said_ns = run.start_ns + (0 if known is None else clock_skew(known))
    return start_ns if said_ns <= run.received_ns else min(start_ns, said_ns - ahead_ns)


def assess(rows: Sequence[ExpectedRun], starts: Sequence[Start], told: Told, now_ns: int, limits: Limits) -> list[ExpectedRun]:
    """`rows` as they stand now: the unsettled ones of one expectation and subject, in order of nominal time."""
    starts = _least_known(rows, starts)
    dues = [row.due for row in rows]
    met = _paired(dues, starts, now_ns)
    may = _hoped_for(dues, met, told.heard_ns)
    judged = []
    for row, start, hoped in zip(rows, met, may, strict=True):
        start_ns = None if start is None else start.start_ns
        state = state_known(row.due, start_ns, told.until_ns, now_ns, limits, unheard_ns=told.unheard_ns)
        if state in _ABSENT and hoped is not None:
            state = ExpectedState.LATE if hoped.start_ns > row.due.late_ns else ExpectedState.EXPECTED
        if start is None and _ABSENT_RANK.get(row.state, 0) > _ABSENT_RANK.get(state, 0):
            state = row.state
        fresh = row._replace(state=state, start_ns=start_ns, run=None if start is None else start.run)
        judged.append(row if fresh == row else fresh._replace(changed_ns=now_ns))
    return _settled(judged, met, may, told.heard_ns, now_ns)


def _paired(dues: Sequence[Expected], starts: Sequence[Start], now_ns: int) -> list[Start | None]:
    """`pair`, slice by slice: after a long outage more runs wait than may be paired at once."""
    if len(dues) <= _SLICE + _AHEAD:
        return pair(dues, starts, now_ns)
    left = first_attempts(starts)
    met: list[Start | None] = []
    while len(met) < len(dues):
        end = len(met) + _SLICE
        if end + _AHEAD >= len(dues):
            return met + pair(dues[len(met) :], left, now_ns)
        until_ns = dues[end + _AHEAD].opens_ns - 1
        last_ns = max(until_ns, dues[end + _AHEAD - 1].missed_ns)
        near = [one for one in left if one.nominal_ns is not None or one.start_ns <= last_ns]
        met += pair(dues[len(met) : end + _AHEAD], near, until_ns)[:_SLICE]
        taken = {id(one) for one in met if one is not None}
        left = [
            one for one in left if id(one) not in taken and (one.nominal_ns is not None or one.start_ns >= dues[end].opens_ns)
        ]
    return met


_ABSENT_RANK = {ExpectedState.LATE: 1, ExpectedState.MISSED: 2}


def _least_known(rows: Sequence[ExpectedRun], starts: Sequence[Start]) -> list[Start]:
    """A run whose start lies in the future is put to when it was last heard of; the least ever seen is nearest the truth."""
    known = {row.run: row.start_ns for row in rows if row.run is not None and row.start_ns is not None}
    if not known:
        return list(starts)
    return [one if one.run not in known else one._replace(start_ns=min(one.start_ns, known[one.run])) for one in starts]


def _hoped_for(dues: Sequence[Expected], met: Sequence[Start | None], heard_ns: int) -> list[Start | None]:
    """Which start each may turn out to have.

    Where windows overlap, the run that looks like the next one's may be this one's, late, as long as the next one's own may
    still come (in time, where that run was in time for it). Until then it is not sure that this one did not come.
    """
    may = list(met)
    for index, (one, following) in enumerate(pairwise(dues)):
        start = met[index + 1]
        if met[index] is not None or start is None or start.start_ns > one.missed_ns:
            continue
        in_time = start.start_ns <= following.late_ns
        if heard_ns < (following.late_ns if in_time else following.missed_ns):
            may[index] = start
    return may


def _settled(
    rows: list[ExpectedRun], met: Sequence[Start | None], may: Sequence[Start | None], heard_ns: int, now_ns: int
) -> list[ExpectedRun]:
    """Settle from the oldest on, up to the first that may still change."""
    settled = list(rows)
    surplus = len(rows) - MOST_WAITING
    for index, row in enumerate(rows):
        following = rows[index + 1].due if index + 1 < len(rows) else None
        surplus_ends = index < surplus and row.state in _VERDICTS
        if not surplus_ends and not final(row, following, heard_ns, sure=met[index] == may[index]):
            break
        settled[index] = row._replace(settled=True, changed_ns=now_ns)
    return settled


def final(row: ExpectedRun, following: Expected | None, heard_ns: int, *, sure: bool = True) -> bool:
    """Whether nothing that comes later changes `row`: `following` is the next expected run, None where none is made yet."""
    if row.state is ExpectedState.MET and row.start_ns is not None:
        over = heard_ns > max(row.due.late_ns, row.start_ns)
        return over and sure and (following is None or row.start_ns < following.opens_ns)
    if row.state is not ExpectedState.MISSED or not sure:
        return False
    end_ns = row.due.missed_ns + DAY_NS if following is None else max(row.due.missed_ns, following.opens_ns - 1)
    return heard_ns > end_ns


def _ns(seconds: float) -> int:
    return round(seconds * SECOND_NS)
