"""What state a run is in: one pure function of the run, its feed, the time and the limits.

In: a `Run` with its process's last beat joined, its `Feed`, now in ns, `Limits`. Out: a `State`, and beside it `overdue`.
Called by: storage (memory engine; `wafer.run_state` in SQL is the twin, proven equal by test), query, alerting.

Source: design/2 §2.3. A run is judged by its own feed's clock, so a cut link makes runs unknown, never lost.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from wafermonitor.runs.records import Feed, Run

SECOND_NS = 1_000_000_000
SOON_NS = 5 * SECOND_NS
"""A beat that took no longer than this was not held up by an outage."""
BAD_RESULTS = ("failure", "error", "timeout")
"""The results after which a person should look."""


class State(StrEnum):
    """First that holds, in this order."""

    ENDED = "ended"
    LOST = "lost"
    SILENT = "silent"
    UNKNOWN = "unknown"
    RUNNING = "running"


class Limits(NamedTuple):
    """Seconds; rows of the table `setting`, so that Python and SQL judge alike.

    `margin_s` is given to the watermark, `behind_s` is how far a watermark may lag before nobody can know, `loss_floor_s` the
    shortest silence that counts as loss, `close_after_s` when a lost run is counted as ended, `dark_s` when a feed is given up.
    """

    margin_s: float = 15.0
    behind_s: float = 30.0
    loss_floor_s: float = 300.0
    close_after_s: float = 86_400.0
    dark_s: float = 86_400.0
    silent_intervals: float = 3.0
    lost_intervals: float = 10.0


def run_state(run: Run, feed: Feed | None, now_ns: int, limits: Limits) -> State:
    """The state of `run` at `now_ns` (the receiver's clock)."""
    if run.ended:
        return State.ENDED
    interval_s = _larger(run.heartbeat_interval_s, run.process_interval_s)
    last_sign_ns = last_sign(run)
    if not interval_s or last_sign_ns is None:
        return State.RUNNING  # it announced no interval, so its silence says nothing
    feed_now_ns, watermark_ns = clocks(feed, now_ns, limits)
    age_s = (watermark_ns - last_sign_ns) / SECOND_NS - limits.margin_s
    if age_s > max(limits.lost_intervals * interval_s, limits.loss_floor_s):
        return State.LOST
    if age_s > limits.silent_intervals * interval_s:
        return State.SILENT
    quiet_s = (feed_now_ns - last_sign_ns) / SECOND_NS
    behind_s = (feed_now_ns - watermark_ns) / SECOND_NS
    if quiet_s > limits.silent_intervals * interval_s and behind_s > limits.behind_s:
        return State.UNKNOWN
    return State.RUNNING


def overdue(run: Run, now_ns: int) -> bool:
    """An open run that has taken longer than it expected, or is past its deadline."""
    if run.ended:
        return False
    if run.deadline_ns is not None and now_ns > run.deadline_ns:
        return True
    if run.expected_duration_s is None or run.start_ns is None:
        return False
    return (now_ns - run.start_ns) / SECOND_NS > run.expected_duration_s


def failing_rank(run: Run, state: State, is_overdue: bool) -> int:
    """What an operator wants to see first: lost 0, silent 1, unknown 2, overdue 3, ended badly 4, running 5, ended well 6."""
    order = (State.LOST, State.SILENT, State.UNKNOWN)
    if state in order:
        return order.index(state)
    if state is State.RUNNING:
        return 3 if is_overdue else 5
    return 4 if run.result in BAD_RESULTS else 6


def close_due(run: Run, feed: Feed | None, now_ns: int, limits: Limits) -> bool:
    """A lost run whose last sign is older than `close_after_s` by its feed's clock: it is counted as ended (`inferred`)."""
    last_sign_ns = last_sign(run)
    if last_sign_ns is None or run_state(run, feed, now_ns, limits) is not State.LOST:
        return False
    watermark_ns = clocks(feed, now_ns, limits)[1]
    return (watermark_ns - last_sign_ns) / SECOND_NS > limits.close_after_s


def last_sign(run: Run) -> int | None:
    """The later of the run's own last sign and its process's last heartbeat, ns."""
    if run.last_sign_ns is None or run.process_beat_ns is None:
        return run.last_sign_ns if run.process_beat_ns is None else run.process_beat_ns
    return max(run.last_sign_ns, run.process_beat_ns)


def clocks(feed: Feed | None, now_ns: int, limits: Limits) -> tuple[int, int]:
    """(now by the feed's clock, the feed's watermark), ns.

    Without a beat the watermark is now: a cut link then looks like silence. A feed dark for longer than `dark_s` is given up,
    so its watermark is now again and `unknown` becomes `lost`. By how much its clock is ahead, it is not dark.
    """
    if feed is None or feed.watermark_ns is None:
        return now_ns, now_ns
    feed_now_ns = now_ns - clock_skew(feed)
    if (min(feed_now_ns, now_ns) - feed.watermark_ns) / SECOND_NS > limits.dark_s:
        return feed_now_ns, feed_now_ns
    return feed_now_ns, feed.watermark_ns


def clock_skew(feed: Feed) -> int:
    """How far the feed's clock is behind ours, ns: the smallest skew ever measured, so that a slow link does not count.

    A clock that was ahead once has been put right when its last beat no longer came from the future, and came soon; its old
    lead is forgotten, else its runs could not be judged for ever. A beat that an outage delayed by more than the lead says
    nothing.
    """
    if feed.received_ns is None or feed.watermark_ns is None:
        return feed.skew_ns
    took_ns = feed.received_ns - feed.watermark_ns
    return 0 if feed.skew_ns < 0 and 0 < took_ns <= SOON_NS else feed.skew_ns


def _larger(a: float | None, b: float | None) -> float | None:
    return max((x for x in (a, b) if x is not None), default=None)
