"""The list of requirements is whole and honest: each row has one state, and what it points at is there."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
assert SPEC is not None
assert SPEC.loader is not None
generate = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(generate)

AREAS = generate.requirements()
ROWS = [(ref, row) for area in AREAS.values() for ref, row in area["rows"].items()]
COUNT = 432
ROUTE_OR_COMMAND = re.compile(r"^/|[ …=<*(]|://")


def paths(text: str) -> list[str]:
    """What stands between backticks and looks like a path of the repository."""
    quoted = [word for word in re.findall(r"`([^`]+)`", text) if not ROUTE_OR_COMMAND.search(word)]
    return [word for word in quoted if "/" in word or (ROOT / word).exists()]


def test_every_requirement_has_its_row_in_order():
    for area, content in AREAS.items():
        assert list(content["rows"]) == [f"{area}-{number:02d}" for number in range(1, len(content["rows"]) + 1)]
        assert content["title"]
    assert len(ROWS) == len({ref for ref, _ in ROWS}) == COUNT


@pytest.mark.parametrize(("ref", "row"), ROWS, ids=[ref for ref, _ in ROWS])
def test_a_row_has_one_state_and_what_it_names_exists(ref, row):
    assert set(row) in [{"asked", state} for state in generate.STATES], ref
    assert all(text.strip() for text in row.values())
    (state,) = set(row) - {"asked"}
    named = paths(row[state])
    missing = [path for path in named if not (ROOT / path).exists()]
    assert not missing, f"{ref} names {missing}"
    assert named or state != "shown", f"{ref} is met, but the row does not say where"


def test_a_row_that_needs_a_test_names_one_that_exists():
    wanted = re.compile(r"`(tests/[\w/]+\.py)`")
    named = {path for _, row in ROWS for path in wanted.findall(row.get("shown", ""))}
    assert named
    assert all("def test_" in (ROOT / path).read_text() or "servers" in path for path in named)
