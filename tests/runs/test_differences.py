"""What changed since the last good run, and what fails together."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from wafermonitor.runs.differences import MAX_CHANGES, Change, Place, Suspect, all_suspects, changes, known_facts, suspects
from wafermonitor.runs.records import Run

HOST = Place("tool-7", "42")


def run(number=0, result="success", **fields):
    values = {"job": "lot_yield", "end_rank": 2, "result": result, "equipment": "P1", "service_version": "1.4"} | fields
    return Run(site="fab", trace_id=b"t" * 16, span_id=number.to_bytes(8, "big"), **values)


def parameters(**values):
    return json.dumps({f"wafer.param.{name}": value for name, value in values.items()} | {"note": "x"})


def test_only_what_is_other_than_in_the_last_good_run_is_told_and_the_new_first():
    good = [run(1, equipment="P2"), run(2), run(3)]
    found = changes(run(9, service_version="1.5"), Place("tool-8"), good, HOST)
    assert found == [
        Change("version", "1.4", "1.5", seen=False),
        Change("host", "tool-7", "tool-8", seen=False),
        Change("equipment", "P2", "P1", seen=True),
    ]
    assert changes(run(9), HOST, [run(1)], HOST) == []


def test_a_fact_that_the_run_does_not_say_is_no_change():
    assert changes(run(9, equipment=None), Place(), [run(1)], HOST) == []
    assert known_facts(run(9, equipment=None), HOST) == ["version", "host"]


def test_parameters_count_only_where_all_good_runs_had_the_same():
    good = [run(number, attributes=parameters(dies=1500 + number, mode="full")) for number in range(3)]
    broken = run(9, attributes=parameters(dies=7, mode="half"))
    assert changes(broken, HOST, good, HOST) == [Change("wafer.param.mode", "full", "half", seen=False)]
    assert changes(broken, HOST, good[:2], HOST) == []
    assert changes(run(9, attributes="[broken"), HOST, good, HOST)[0].after is None


def test_many_changes_are_cut():
    before = {
        "equipment": "a",
        "recipe": "a",
        "product": "a",
        "service": "a",
        "service_version": "a",
        "feed": "a",
        "trigger": "a",
    }
    after = dict.fromkeys(before, "b")
    assert len(changes(run(9, **after), Place("x"), [run(1, **before)], HOST)) == MAX_CHANGES


def test_a_value_with_which_most_fail_and_without_which_few_do_is_suspected():
    recent = [run(n, "failure", equipment="P2") for n in range(3)] + [run(10 + n) for n in range(9)]
    recent.append(run(30, "failure"))
    bad = run(99, "failure", equipment="P2")
    assert suspects(bad, recent) == [Suspect("equipment", "P2", 4, 4, 1, 10)]
    assert all_suspects([bad, *recent]) == suspects(bad, recent)
    assert suspects(run(98), recent) == []


def test_too_few_runs_suspect_nothing():
    recent = [run(1, "failure", equipment="P2"), *(run(10 + n) for n in range(9))]
    assert suspects(run(99, "failure", equipment="P2"), recent) == []
    assert suspects(run(99, "failure"), [run(n, "failure") for n in range(9)]) == []


runs = st.builds(
    run,
    st.integers(0, 99),
    st.sampled_from(["success", "failure", "timeout", "cancellation"]),
    equipment=st.sampled_from(["P1", "P2", None]),
    recipe=st.sampled_from(["R1", "R2", None]),
    attributes=st.sampled_from(["{}", None, "[]", "x", parameters(a=1)]),
)


@given(runs, st.lists(runs, max_size=30))
def test_a_suspect_always_fails_oftener_than_the_others(mine, recent):
    for one in [*suspects(mine, recent), *all_suspects(recent)]:
        assert one.failed / one.runs > one.failed_elsewhere / one.runs_elsewhere
        assert one.runs + one.runs_elsewhere <= len(recent) + 1
