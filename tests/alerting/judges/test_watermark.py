"""What is said of a run while its feed is behind was known when the feed spoke last; and silence of a feed ends nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.alerting.judges.world import NOW, SECOND, feed, feeds, found, rule, run, usual

KINDS = ("silent", "lost", "overdue", "running_long", "duration_anomaly")
ages = st.integers(0, 20_000)
times = st.tuples(ages, ages, st.integers(0, 80_000))
"""How long, s: the run was quiet when its feed spoke last, it had been going before, the feed has been behind since."""
skews = st.sampled_from([0, 0, 3600, 30])
open_runs = st.fixed_dictionaries(
    {},
    optional={
        "heartbeat_interval_s": st.sampled_from([None, 10.0, 30.0]),
        "expected_duration_s": st.floats(1, 10_000),
    },
)


def sure(kind: str, now: int, *, last: int, start: int, behind_s: float, skew_s: int, **fields) -> bool:
    """Whether anything is said for sure of a run whose last sign was at `last`, ns by the store's clock."""
    skew = skew_s * SECOND
    one = run(start=start - skew, last_sign_ns=last - skew, received_ns=last, **fields)
    way = feeds(feed(behind_s, now=now, skew_ns=skew))
    return any(
        told.sure
        for told in found(rule(kind), now=now, feeds=way, open_runs=[one], profiles=usual(600) if kind[0] == "d" else {})
    )


@given(st.sampled_from(KINDS), times, skews, open_runs)
def test_nothing_is_said_that_was_not_known_when_the_feed_spoke_last(kind, times, skew_s, fields):
    quiet_s, going_s, behind_s = times
    spoke = NOW - behind_s * SECOND
    last = spoke - quiet_s * SECOND
    start = last - going_s * SECOND
    behind = sure(kind, NOW, last=last, start=start, behind_s=behind_s, skew_s=skew_s, **fields)
    assert behind is sure(kind, spoke, last=last, start=start, behind_s=0, skew_s=skew_s, **fields)


@given(st.sampled_from(KINDS), times, open_runs)
def test_what_was_said_is_not_taken_back_because_a_feed_falls_silent(kind, times, fields):
    """Every judge still finds it, sure or not: an alert that is open stays open until something is heard."""
    quiet_s, going_s, behind_s = times
    spoke = NOW - behind_s * SECOND
    last = spoke - quiet_s * SECOND
    start = last - going_s * SECOND
    if sure(kind, spoke, last=last, start=start, behind_s=0, skew_s=0, **fields):
        one = run(start=start, last_sign_ns=last, received_ns=last, **fields)
        profiles = usual(600) if kind[0] == "d" else {}
        assert found(rule(kind), feeds=feeds(feed(behind_s)), open_runs=[one], profiles=profiles)
