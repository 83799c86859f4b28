"""Where a run's time went: by path of subjobs, on its critical path, whatever tree a sender makes."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wafermonitor.runs.paths import MAX_DEPTH, Part, Tree, critical_path, elapsed_s, first_failure, stretches, walk
from wafermonitor.runs.records import Run
from wafermonitor.runs.state import State

SECOND = 1_000_000_000


def part(number, start_s, end_s, *, job="work", result="success"):
    ended = end_s is not None
    run = Run(
        site="fab",
        trace_id=b"t" * 16,
        span_id=number.to_bytes(8, "big"),
        job=job,
        start_ns=None if start_s is None else int(start_s * SECOND),
        end_ns=int(end_s * SECOND) if ended else None,
        end_rank=2 if ended else 0,
        result=result if ended else None,
    )
    return Part(run, State.ENDED if ended else State.RUNNING)


def tree(top, *below):
    """`below`: (number of the parent, part)."""
    children = defaultdict(list)
    for parent, child in below:
        children[parent.to_bytes(8, "big")].append(child)
    return Tree(top, dict(children))


def steps(found):
    return [(" › ".join(step.path), step.own_s) for step in found]


def test_subjobs_at_the_same_time_count_once():
    lot = tree(part(1, 0, 10), (1, part(2, 0, 6)), (1, part(3, 4, 9)), (1, part(4, None, 5)))
    (found,) = stretches(lot, 0).values()
    assert (found.busy_s, found.runs, found.typical_s, found.longest_s) == (9, 2, 5.5, 6)
    assert found.longest.span_id == (2).to_bytes(8, "big")


def test_what_is_open_counts_until_now():
    lot = tree(part(1, 0, None), (1, part(2, 4, None)))
    assert stretches(lot, 10 * SECOND)["work",].busy_s == 6
    assert elapsed_s(lot.top.run, 10 * SECOND) == 10


def test_the_critical_path_is_what_the_end_waited_for():
    lot = tree(
        part(1, 0, 100),
        (1, part(2, 5, 40, job="load")),
        (1, part(3, 10, 30, job="beside")),  # over while `load` still ran: nobody waited for it
        (1, part(4, 45, 95, job="fit")),
        (4, part(5, 50, 90, job="solve")),
    )
    assert steps(critical_path(lot, 0)) == [("fit › solve", 40), ("load", 35), ("", 15), ("fit", 10)]


def test_a_subjob_that_ends_after_its_run_is_waited_for_only_that_long():
    assert steps(critical_path(tree(part(1, 0, 10), (1, part(2, 2, 60))), 0)) == [("work", 8), ("", 2)]


def test_a_run_without_a_start_has_no_critical_path():
    assert critical_path(tree(part(1, None, 10)), 0) == []


def test_the_first_failure_is_followed_down():
    lot = tree(
        part(1, 0, 100, result="failure"),
        (1, part(2, 0, 50, result="failure", job="later")),
        (1, part(3, 0, 40, result="failure", job="first")),
        (3, part(4, 0, 39, job="good")),
        (3, part(5, 0, 30, result="timeout", job="root")),
    )
    assert [one.run.job for one in first_failure(lot)] == ["first", "root"]
    assert first_failure(tree(part(1, 0, 1, result="failure"), (1, part(2, 0, 1)))) == []


def test_what_lies_very_deep_counts_for_its_ancestor():
    deep = tree(part(1, 0, 1000), *((number, part(number + 1, number, 1000 - number)) for number in range(1, 300)))
    assert max(len(path) for path, _ in walk(deep)) == MAX_DEPTH
    assert sum(1 for _ in walk(deep)) == 299
    assert sum(step.own_s for step in critical_path(deep, 0)) == pytest.approx(1000)


numbers = st.integers(1, 8)
spans = st.tuples(st.floats(0, 100), st.floats(0, 100)).map(sorted)


@given(st.lists(st.tuples(numbers, numbers, spans), max_size=20), spans)
def test_any_tree_has_an_end_and_its_critical_path_is_as_long_as_it(edges, whole):
    """Circles, several parents and subjobs outside their run's time among them."""
    lot = tree(part(1, *whole, result="failure"), *((up, part(down, *span, result="failure")) for up, down, span in edges))
    found = [one.run.span_id for _, one in walk(lot)]
    assert len(found) == len(set(found))
    assert lot.top.run.span_id not in found
    assert len(first_failure(lot)) <= 8
    path = critical_path(lot, 0)
    assert all(step.own_s >= 0 for step in path)
    assert sum(step.own_s for step in path) == pytest.approx(elapsed_s(lot.top.run, 0), abs=1e-6)
