"""Which run met which expected one: every rule by an example, and the assignment against brute force."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wafermonitor.runs.expectations import Expected
from wafermonitor.runs.pairing import Start, pair

MINUTE = 60_000_000_000
HOUR = 60 * MINUTE


def tick(nominal: float, early: float = 0, margin: float = 5, grace: float = 10) -> Expected:
    at = int(nominal * MINUTE)
    late = at + int(margin * MINUTE)
    return Expected(at, at - int(early * MINUTE), late, late + int(grace * MINUTE))


def minutes(pairs: list[Start | None]) -> list[float | None]:
    return [None if start is None else start.start_ns / MINUTE for start in pairs]


def starts(*at: float) -> list[Start]:
    return [Start(int(minute * MINUTE)) for minute in at]


HOURLY = [tick(0), tick(60), tick(120)]


@pytest.mark.parametrize(
    ("began", "met"),
    [
        ((0, 60, 120), [0, 60, 120]),
        ((120, 0, 60), [0, 60, 120]),
        ((0, 120), [0, None, 120]),
        ((3, 74, 121), [3, 74, 121]),
        ((60,), [None, 60, None]),
        ((), [None, None, None]),
        ((59,), [59, None, None]),
        ((0, 20, 60), [0, 60, None]),
    ],
    ids=[
        "on time",
        "unordered",
        "one missing",
        "late",
        "only the second",
        "none",
        "after missed, before the next",
        "an extra run",
    ],
)
def test_starts_meet_the_tick_that_they_were_for(began, met):
    assert minutes(pair(HOURLY, starts(*began))) == met


def test_an_early_start_is_on_time_only_as_early_as_allowed():
    assert minutes(pair([tick(60, early=2)], starts(58))) == [58]
    assert minutes(pair([tick(60, early=2)], starts(57))) == [None]


def test_a_start_before_the_hour_is_the_next_ticks_even_when_the_last_one_was_missed():
    assert minutes(pair([tick(0, grace=59), tick(60, early=2)], starts(59))) == [None, 59]


def test_a_backlog_is_worked_off_in_order_when_windows_overlap():
    ticks = [tick(0, grace=300), tick(60, grace=300), tick(120, grace=300)]
    assert minutes(pair(ticks, starts(130, 140, 150))) == [130, 140, 150]


def test_a_retry_is_not_a_second_run():
    ticks = [tick(0, grace=300), tick(60, grace=300)]
    first, retry = Start(int(60.5 * MINUTE), occasion="LOT-1"), Start(70 * MINUTE, occasion="LOT-1")
    assert minutes(pair(ticks, [retry, first])) == [None, 60.5]


def test_a_run_that_says_its_time_meets_it_however_late():
    late = Start(119 * MINUTE, nominal_ns=0)
    assert pair(HOURLY, [late, *starts(60)]) == [late, *starts(60), None]


def test_a_run_for_another_time_meets_nothing():
    assert pair(HOURLY, [Start(0, nominal_ns=17)]) == [None, None, None]


def test_the_last_tick_waits_until_the_given_time():
    assert minutes(pair([tick(0)], starts(100))) == [None]
    assert minutes(pair([tick(0)], starts(100), until_ns=HOUR * 2)) == [100]


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=4, unique=True),
    st.lists(st.integers(-3, 40), max_size=4),
    st.integers(0, 5),
    st.integers(0, 3),
    st.integers(0, 12),
)
def test_no_other_assignment_is_better(nominals, began, early, margin, grace):
    ticks = [tick(nominal, early, margin, grace) for nominal in sorted(nominals)]
    answer = pair(ticks, starts(*began))
    assert _worth(ticks, answer) == max(_worth(ticks, other) for other in _all(ticks, starts(*sorted(began))))


@given(st.permutations([0, 1, 59, 62, 130]), st.permutations(range(3)))
def test_neither_order_of_input_matters(began, order):
    expected = pair(HOURLY, starts(0, 1, 59, 62, 130))
    assert pair([HOURLY[index] for index in order], starts(*began)) == [expected[index] for index in order]


def _end(ticks: list[Expected], index: int) -> int:
    following = ticks[index + 1].opens_ns - 1 if index + 1 < len(ticks) else 0
    return max(ticks[index].missed_ns, following)


def _worth(ticks: list[Expected], answer: list[Start | None]) -> tuple[int, int, int]:
    pairs = [(tick, start) for tick, start in zip(ticks, answer, strict=True) if start is not None]
    on_time = sum(tick.opens_ns <= start.start_ns <= tick.late_ns for tick, start in pairs)
    return on_time, len(pairs), -sum(abs(start.start_ns - tick.nominal_ns) for tick, start in pairs)


def _all(ticks: list[Expected], ordered: list[Start]):
    """Every assignment without crossings in which each start is inside its tick's time."""
    for size in range(min(len(ticks), len(ordered)) + 1):
        for some_ticks in combinations(range(len(ticks)), size):
            for some_starts in combinations(ordered, size):
                chosen = dict(zip(some_ticks, some_starts, strict=True))
                if all(ticks[i].opens_ns <= start.start_ns <= _end(ticks, i) for i, start in chosen.items()):
                    yield [chosen.get(i) for i in range(len(ticks))]
