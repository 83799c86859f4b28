"""Times, durations and attributes as callers write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wafermonitor.query.answers import instant
from wafermonitor.query.filters import parse_attribute, parse_duration, parse_time

NOW = 1_780_000_000_000_000_000


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("now", NOW),
        ("-6h", NOW - 6 * 3600 * 10**9),
        ("-250ms", NOW - 250_000_000),
        ("-2w", NOW - 14 * 86_400 * 10**9),
        ("+6h", NOW + 6 * 3600 * 10**9),
        (" 6h", NOW + 6 * 3600 * 10**9),
        ("+999999999w", 2**63 - 1),
        ("1970-01-01", 0),
        ("1970-01-01T00:00:01Z", 10**9),
        ("1970-01-01t00:00:01z", 10**9),
        ("1970-01-01 00:00", 0),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01T01:00:00 01:00", 0),
        ("1969-12-31T23:00:00-0100", 0),
        ("1970-01-01T00:00:00.123456789Z", 123_456_789),
        ("1970-01-01T00:00:00.5", 500_000_000),
        ("2016-12-31T23:59:60Z", 1_483_228_799_999_999_999),
        ("9999-12-31", 2**63 - 1),
        ("0001-01-01", -(2**63) + 1),
        ("-999999999w", -(2**63) + 1),
    ],
)
def test_times_are_read(text, ns):
    assert parse_time(text, NOW) == ns


@pytest.mark.parametrize(
    "text", ["", "gestern", "-6", "6h", "+6", "+-6h", "-6y", "2026-02-30", "2026-01-01T25:00", "12:00", "-٣h", "2026-1-1"]
)
def test_other_times_are_refused_with_what_is_expected(text):
    with pytest.raises(ValueError, match=r"expected RFC 3339|check day, hour and offset"):
        parse_time(text, NOW)


@given(st.integers(min_value=-(10**18), max_value=2**63 - 1))
def test_what_the_api_writes_it_reads(ns):
    assert parse_time(instant(ns), 0) == ns


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("1.5h", 5400), ("250ms", 0.25), ("0", 0), ("2d", 172_800)])
def test_durations_are_read(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "-5", "1e3", "nan", "5 h", "5y"])
def test_other_durations_are_refused(text):
    with pytest.raises(ValueError, match="expected seconds or a number with"):
        parse_duration(text)


def test_an_attribute_s_key_ends_at_the_first_colon():
    assert parse_attribute("a.b:c:d") == ("a.b", "c:d")
    assert parse_attribute("a:") == ("a", "")


@pytest.mark.parametrize("text", ["", "a", ":b", "a:\0"])
def test_other_attributes_are_refused(text):
    with pytest.raises(ValueError, match="expected key:value"):
        parse_attribute(text)
