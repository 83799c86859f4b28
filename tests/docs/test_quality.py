"""Every promise by name is shown by something that exists, or says that it is not kept yet."""

from __future__ import annotations

import pytest

from tests.docs.test_requirements import ROOT, generate, paths

GOALS = [(goal, row) for area in generate.quality().values() for goal, row in area["rows"].items()]
FIELDS = {"promise", "measured", "command", "shown", "planned"}


@pytest.mark.parametrize(("goal", "row"), GOALS, ids=[goal for goal, _ in GOALS])
def test_a_promise_is_shown_or_planned(goal, row):
    assert set(row) <= FIELDS
    shown = bool(generate.tests_by_goal().get(goal) or row.get("shown") or row.get("command"))
    assert shown or row.get("planned"), f"{goal} is neither shown by a test or a benchmark nor planned"
    named = [path for text in (row.get("shown", ""), row.get("measured", "")) for path in paths(text)]
    assert not [path for path in named if not (ROOT / path).exists()]


def test_every_test_that_names_a_goal_names_one_that_is_promised():
    assert set(generate.tests_by_goal()) <= {goal for goal, _ in GOALS}
