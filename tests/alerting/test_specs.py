"""A spec that the read API was sent, found by its entry point."""

from __future__ import annotations

import json
from importlib.metadata import entry_points

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wafermonitor.alerting.expecting import loads
from wafermonitor.alerting.specs import canonical


def test_it_is_what_the_read_api_finds():
    (entry,) = entry_points(group="wafermonitor.specs", name="expectation")
    assert entry.load() is canonical


def test_one_wish_has_one_spelling():
    text = canonical('{"zone": "UTC", "grace_s": 1800.0, "early_s": 60, "cron": "0 2 * * *"}')
    assert text == '{"cron":"0 2 * * *","grace_s":1800,"zone":"UTC"}'
    assert canonical(text) == text


names = st.sampled_from(["cron", "every_s", "zone", "since_ns", "after", "within_s", "on", "calendar", "grace_s", "owner", "x"])
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["0 2 * * *", "UTC", "end"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["zone", "weekdays", "closed"]), inner),
)


@given(st.dictionaries(names, values, max_size=5))
def test_whatever_is_sent_is_a_spec_or_a_value_error(spec):
    try:
        text = canonical(json.dumps(spec))
    except ValueError:
        return
    assert canonical(text) == text
    assert loads(text)


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '{"every_s": 1, "calendar": []}', "[" * 100_000])
def test_what_is_no_spec_is_refused(text):
    with pytest.raises(ValueError, match=r"spec|calendar"):
        canonical(text)
