"""Ids of runs: the same from the same four values, random elsewhere, and `TRACEPARENT` as W3C has it."""

import hashlib

import pytest

from wafermonitor.instrumentation.derived import Ids, Parent, child_flags, derive, parent_of, random_ids, traceparent

TRACE, SPAN = "ab" * 16, "cd" * 8


def test_derived_ids_are_sha256_of_the_four_values_joined_by_nul():
    digest = hashlib.sha256("fab1\0lot_yield\0GAL-LOT/é\0002".encode()).digest()
    assert derive("fab1", "lot_yield", "GAL-LOT/é", 2) == Ids(digest[:16], digest[16:24])


def test_each_value_makes_other_ids():
    all_of_them = [
        derive("a", "b", "c"),
        derive("x", "b", "c"),
        derive("a", "x", "c"),
        derive("a", "b", "x"),
        derive("a", "b", "c", 2),
    ]
    assert len(set(all_of_them)) == 5
    assert derive("a", "b", "c") == derive("a", "b", "c", 1)
    assert derive("", "b", "c") == derive("unset", "b", "c")


def test_bytes_that_are_no_utf8_still_derive():
    assert derive("a", "b\udcff", "c") == derive("a", "b\udcff", "c")


@pytest.mark.parametrize("version", ["00", "cc"])
def test_a_parent_is_read_with_its_flags_and_state(version):
    found = parent_of({"TRACEPARENT": f" {version}-{TRACE}-{SPAN}-03 ", "TRACESTATE": "a=b"})
    assert found == Parent(bytes.fromhex(TRACE), bytes.fromhex(SPAN), 3, "a=b")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        f"00-{TRACE}-{SPAN}",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{'z' * 32}-{SPAN}-01",
    ],
)
def test_what_is_no_parent_is_none(text):
    assert parent_of({"TRACEPARENT": text}) is None


def test_random_ids_stay_in_the_parents_trace():
    parent = Parent(bytes.fromhex(TRACE), bytes.fromhex(SPAN), 1, "")
    assert random_ids(parent).trace_id == parent.trace_id
    assert random_ids(parent).span_id != random_ids(parent).span_id
    assert random_ids(None).trace_id != random_ids(None).trace_id


def test_children_are_sampled_unless_the_upstreams_word_is_kept():
    parent = Parent(bytes.fromhex(TRACE), bytes.fromhex(SPAN), 0, "")
    assert child_flags(parent, keep=False) == 1
    assert child_flags(parent, keep=True) == 0
    assert traceparent(Ids(parent.trace_id, parent.span_id), 3) == f"00-{TRACE}-{SPAN}-03"
