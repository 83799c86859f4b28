"""The numbers of an alert read as people write them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some

from wafermonitor.ui.evidence import Fact, facts

values = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=20),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def test_units_stand_at_the_end_of_names():
    found = facts(
        {
            "usual_s": 1_500,
            "memory_bytes": 8.2e9,
            "failure_ratio": 0.125,
            "error_rate": 0.5,
            "runs": 214,
            "last_sign": "2026-05-29T07:37:10Z",
            "host": "etl-07",
            "lots": ["A", "B"],
            "muted": True,
            "nothing": None,
            "limit_percent": 10,
        }
    )
    assert found == [
        Fact("usual", "25m 00s"),
        Fact("memory", "8.2 GB"),
        Fact("failure", "12.5 %"),
        Fact("error", "50 %"),
        Fact("runs", "214"),
        Fact("last sign", "2026-05-29T07:37:10Z", "2026-05-29T07:37:10Z"),
        Fact("host", "etl-07"),
        Fact("lots", "A, B"),
        Fact("muted", "yes"),
        Fact("limit", "10 %"),
    ]


def test_runs_are_links_not_numbers():
    run = f"{'a' * 32}-{'b' * 16}"
    assert facts({"run": run, "runs": [run, run]}) == [Fact("run", "run", runs=(run,)), Fact("runs", "runs", runs=(run, run))]
    assert facts({"run": "nightly", "runs": []}) == [Fact("run", "nightly"), Fact("runs", "")]


def test_a_time_in_ns_is_a_time():
    assert facts({"nominal_ns": 1_780_041_600_000_000_000}) == [
        Fact("nominal", "2026-05-29T08:00:00+00:00", "2026-05-29T08:00:00+00:00")
    ]


@given(some.dictionaries(some.sampled_from(["a_s", "b_ns", "c_bytes", "d_ratio", "e", "s", "f.g_h"]), values))
def test_whatever_a_rule_gives_can_be_shown(evidence):
    shown = facts(evidence)
    assert len(shown) == sum(value is not None for value in evidence.values())
    assert all(isinstance(fact.words, str) for fact in shown)
