"""Whether an expected run has come: one pure function of its due times, the run matched to it, the job's feeds and the time.

In: an `Expected` run (a tick of an expectation), the start of the run that `pairing` gave it, the feeds on which the job has
run, now in ns, `Limits`. Out: an `ExpectedState`.
Called by: alerting (its evaluator), query (badges and calendar).

Source: design/2 §2.3. An absence is said only when every feed of the job has told of a time after it, so a cut link makes
expected runs unknown, never missed.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

from wafermonitor.runs.records import Feed
from wafermonitor.runs.state import SECOND_NS, Limits, clock_skew, clocks


class ExpectedState(StrEnum):
    """First that holds, in this order."""

    MET = "met"
    MISSED = "missed"
    LATE = "late"
    UNKNOWN = "unknown"
    EXPECTED = "expected"


class Expected(NamedTuple):
    """One run that should come. Times are ns by the receiver's clock.

    A start in [`opens_ns`, `late_ns`] is on time; after `late_ns` it is late, after `missed_ns` missed. A run that comes after
    that still meets it, so that what was missed can be told as "came three hours late".
    """

    nominal_ns: int
    opens_ns: int
    late_ns: int
    missed_ns: int


class Started(Protocol):
    """What is known of when a run started: a `Run`, or what storage gives of one."""

    @property
    def start_ns(self) -> int | None: ...  # noqa: D102 - the fields of a record
    @property
    def end_ns(self) -> int | None: ...  # noqa: D102
    @property
    def received_ns(self) -> int | None: ...  # noqa: D102


def expectation_state(
    expected: Expected, start_ns: int | None, feeds: Sequence[Feed], now_ns: int, limits: Limits
) -> ExpectedState:
    """The state of `expected` at `now_ns`; `start_ns` is the start of its run, None when there is none yet."""
    return state_known(expected, start_ns, known_until(feeds, now_ns, limits), now_ns, limits)


def state_known(
    expected: Expected, start_ns: int | None, known_ns: int, now_ns: int, limits: Limits, *, unheard_ns: int = 0
) -> ExpectedState:
    """The state where everything up to `known_ns` has been told (`known_until`).

    `unheard_ns`: how long after its start a run of the job may stay unheard of, because it announces nothing.
    """
    if start_ns is not None:
        return ExpectedState.MET
    heard_ns = known_ns - unheard_ns
    if heard_ns > expected.missed_ns:
        return ExpectedState.MISSED
    if heard_ns > expected.late_ns:
        return ExpectedState.LATE
    if now_ns > expected.late_ns and (now_ns - known_ns) / SECOND_NS > limits.margin_s + limits.behind_s:
        return ExpectedState.UNKNOWN
    return ExpectedState.EXPECTED


def known_until(feeds: Sequence[Feed], now_ns: int, limits: Limits) -> int:
    """Up to when every one of `feeds` has told everything, ns by the receiver's clock.

    Of several feeds the slowest counts: the run may be waiting in its spool. Without a feed there is nobody to wait for.
    """
    margin_ns = round(limits.margin_s * SECOND_NS)
    watermarks = (clocks(feed, now_ns, limits)[1] + clock_skew(feed) for feed in feeds if feed.watermark_ns is not None)
    return min(watermarks, default=now_ns) - margin_ns


def true_start(run: Started, feed: Feed | None) -> int | None:
    """When `run` started by the receiver's clock, ns: its feed's skew taken out, and never after it was heard of.

    Without this, an application whose clock is a day ahead would meet tomorrow's expectation, and today's would be missed. A
    start from the future is taken for as long before the last sign as the run had taken by then, where that is known.
    """
    if run.start_ns is None:
        return run.received_ns
    start_ns = run.start_ns + (clock_skew(feed) if feed is not None else 0)
    if run.received_ns is None or start_ns <= run.received_ns:
        return start_ns
    return run.received_ns - (max(0, run.end_ns - run.start_ns) if run.end_ns is not None else 0)
