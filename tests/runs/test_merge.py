"""Merging is commutative, associative and idempotent, and the final span has the last word."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.runs.strategies import SITE, SPAN_ID, T0, TRACE_ID, runs
from wafermonitor.runs.merge import DESCRIPTIVE, final_fields, merge, merge_all
from wafermonitor.runs.records import Progress, Run


def event(**fields) -> Run:
    return Run(site=SITE, trace_id=TRACE_ID, span_id=SPAN_ID, **fields)


def final(**fields) -> Run:
    run = event(end_rank=2, **fields)
    return dataclasses.replace(run, final_fields=final_fields(run))


@given(runs(), runs())
def test_order_of_two_does_not_matter(a, b):
    assert merge(a, b) == merge(b, a)


@given(runs(), runs(), runs())
def test_grouping_does_not_matter(a, b, c):
    assert merge(merge(a, b), c) == merge(a, merge(b, c))


@given(runs())
def test_the_same_record_twice_changes_nothing(a):
    assert merge(a, a) == a


@given(st.lists(runs(), min_size=1, max_size=5), st.randoms())
def test_any_order_with_redelivery_gives_one_run(records, random):
    redelivered = records * 2
    random.shuffle(redelivered)
    assert merge_all(redelivered) == merge_all(records)


def test_the_final_span_outranks_what_was_announced():
    assert merge(event(equipment="E9", job="fit"), final(equipment="E1")).equipment == "E1"


def test_what_the_final_span_leaves_out_stays_as_announced():
    assert merge(event(lot_ids=("L1",)), final(job="fit")).lot_ids == ("L1",)


def test_an_end_event_ends_but_the_span_decides_how():
    ended = merge(event(end_rank=1, end_ns=T0 + 9, result="success"), event(last_sign_ns=T0 + 20))
    assert (ended.end_rank, ended.result) == (1, "success")
    assert merge(ended, final(end_ns=T0 + 8, result="failure", error_type="E")).result == "failure"


def test_nothing_reopens_an_ended_run():
    assert merge(final(end_ns=T0, result="success"), event(last_sign_ns=T0 + 10**12)).ended


def test_the_latest_progress_wins_whenever_it_comes():
    late, early = Progress(at_ns=T0 + 5, ratio=0.2), Progress(at_ns=T0 + 1, ratio=0.9)
    assert merge(event(progress=late), event(progress=early)).progress == late


def test_any_later_sign_takes_back_an_inferred_end():
    assert not merge(event(inferred=True), event(last_sign_ns=T0)).inferred


def test_two_runs_do_not_merge():
    with pytest.raises(ValueError, match="different runs"):
        merge(event(), dataclasses.replace(event(), site="f2"))


def test_every_descriptive_field_has_a_bit_of_a_four_byte_mask():
    assert len(DESCRIPTIVE) <= 31
    assert set(DESCRIPTIVE) < set(Run.__slots__)
