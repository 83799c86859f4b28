"""Sentences about a run: what each outcome says, and that no case is without words or changes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wafermonitor.runs.differences import Place
from wafermonitor.runs.explain import Case, Mates, explain, is_short, is_slow, usual_durations
from wafermonitor.runs.paths import Part, Tree
from wafermonitor.runs.records import Feed, Progress, Run
from wafermonitor.runs.state import Limits, State

SECOND = 1_000_000_000
NOW = 1_780_000_000 * SECOND


def run(number=1, start_s=-100.0, end_s=None, *, job="lot_yield", **fields):
    ended = end_s is not None
    values = {"result": "success" if ended else None, "end_rank": 2 if ended else 0} | fields
    return Run(
        site="fab",
        trace_id=b"t" * 16,
        span_id=number.to_bytes(8, "big"),
        job=job,
        start_ns=None if start_s is None else NOW + int(start_s * SECOND),
        end_ns=NOW + int(end_s * SECOND) if ended else None,
        **values,
    )


def tree(one, state=None):
    return Tree(Part(one, state or (State.ENDED if one.ended else State.RUNNING)), {})


def peers(count=10, took_s=100.0, **fields):
    return [tree(run(50 + n, -5000.0 - n * 1000, -5000.0 - n * 1000 + took_s, **fields)) for n in range(count)]


def headline(one, state=None, **fields):
    return explain(Case(tree(one, state), NOW, **fields)).headline


def texts(one, state=None, **fields):
    return [reason.text for reason in explain(Case(tree(one, state), NOW, **fields)).reasons]


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ("success", "ended well after 40 s"),
        (None, "ended after 40 s"),
        ("cancellation", "was cancelled after 40 s"),
        ("skip", "was skipped after 40 s"),
        ("failure", "failed after 40 s"),
        ("timeout", "ran out of time after 40 s"),
        ("error", "was ended by an error after 40 s"),
    ],
)
def test_every_result_has_its_verb(result, words):
    assert headline(run(end_s=-60, result=result)) == f"lot_yield {words}."


def test_what_is_usual_is_said_only_where_enough_good_runs_are_known():
    assert headline(run(end_s=0), peers=peers()) == "lot_yield ended well after 1 min 40 s, as usual."
    assert headline(run(end_s=0), peers=peers(2)) == "lot_yield ended well after 1 min 40 s."
    assert headline(run(), peers=peers()) == "lot_yield is running for 1 min 40 s, as usual."
    assert headline(run(start_s=None)) == "lot_yield is running."
    assert headline(run(), overdue=True) == "lot_yield is running for 1 min 40 s and is overdue."


def test_a_deadline_that_is_over_says_by_how_much():
    late = texts(run(deadline_ns=NOW - 30 * SECOND), overdue=True)
    assert late[0] == "Its deadline, 2026-05-28 20:26:10 UTC, is over by 30 s."


def test_much_memory_and_a_second_attempt_are_told():
    failed = run(end_s=-60, result="error", memory_bytes=7_900_000_000, attempt=2)
    told = texts(failed, peers=peers(memory_bytes=2_000_000_000))
    assert "This was attempt 2." in told
    assert "It used 7.9 GB of memory; usual is 2 GB." in told
    assert "memory" not in " ".join(texts(failed, peers=peers(memory_bytes=7_000_000_000)))


def test_a_message_is_one_line_of_bounded_length():
    said = "\x1b[31mred\x00 " + "x" * 1000 + "\nnext"
    (text,) = [one for one in texts(run(end_s=-60, result="failure"), said=said) if one.startswith("It said")]
    assert text.isprintable()
    assert len(text) < 320


def test_a_dead_process_a_living_one_and_a_dead_feed_are_told_apart():
    lost = run(last_sign_ns=NOW - 600 * SECOND, heartbeat_interval_s=10.0)
    place = Place("tool-7", "42")
    assert "Its process 42 on host tool-7 is alive: 2 other runs of it are heard of." in texts(
        lost, State.LOST, place=place, mates=Mates(alive=2, silent=1)
    )
    assert "Its process 42 on host tool-7 has not been heard of since either." in texts(lost, State.LOST, place=place)
    assert texts(lost, State.SILENT)[1] == "No feed tells how far it has been heard: a cut link would look the same."


def test_slow_and_short_need_more_than_the_spread_of_good_runs():
    usual = usual_durations([*peers(8), *peers(2, took_s=300.0)])
    assert usual is not None
    assert (usual.mid_s, usual.high_s, usual.runs) == (100.0, 300.0, 10)
    assert not is_slow(290.0, usual)
    assert is_slow(310.0, usual)
    assert is_short(40.0, usual)
    assert not is_short(60.0, usual)
    assert not is_slow(None, usual)
    assert not is_short(40.0, None)


times = st.none() | st.floats(-10_000, 100)
runs = st.builds(
    run,
    st.integers(1, 6),
    times,
    times,
    job=st.sampled_from(["lot", "wafer", None]),
    result=st.sampled_from(["success", "failure", "error", "timeout", "cancellation", "skip", None]),
    error_type=st.sampled_from(["BadFile", None]),
    equipment=st.sampled_from(["P1", "P2", None]),
    last_sign_ns=st.none() | st.integers(NOW - 10**13, NOW),
    heartbeat_interval_s=st.sampled_from([None, 10.0]),
    deadline_ns=st.none() | st.integers(NOW - 10**12, NOW + 10**12),
    expected_duration_s=st.sampled_from([None, 60.0]),
    memory_bytes=st.sampled_from([None, 10**9, 10**10]),
    progress=st.none() | st.builds(Progress, st.just(NOW), st.sampled_from([None, 0.5]), st.sampled_from([None, 2.0])),
    attributes=st.sampled_from(["{}", None, '{"wafer.param.mode": "full"}']),
)
parts = st.builds(Part, runs, st.sampled_from(State))
trees = st.builds(
    Tree, parts, st.dictionaries(st.integers(1, 6).map(lambda n: n.to_bytes(8, "big")), st.lists(parts, max_size=4), max_size=4)
)
feeds = st.none() | st.builds(
    Feed, st.just("fab"), st.just("f"), st.none() | st.integers(NOW - 10**12, NOW), st.just(NOW), st.just(0)
)
cases = st.builds(
    Case,
    trees,
    st.just(NOW),
    st.just(Limits()),
    st.booleans(),
    feeds,
    st.builds(Place, st.sampled_from(["a", None]), st.just("1")),
    st.lists(runs, max_size=8),
    st.lists(trees, max_size=6),
    mates=st.builds(Mates, st.integers(0, 2), st.integers(0, 2), st.integers(0, 2)),
)


@given(cases)
def test_every_case_has_words_and_always_the_same(case):
    first = explain(case)
    assert first == explain(case)
    for text in (first.headline, *(reason.text for reason in first.reasons)):
        assert text.endswith((".", "…"))
        assert "None" not in text
        assert "  " not in text
    assert first.cohort == len(case.peers)
