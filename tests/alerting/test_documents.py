"""YAML and TOML as plain values with their lines; whatever stands in a file, the answer is a declaration or a mistake."""

from __future__ import annotations

import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from wafermonitor.alerting.declared import CALENDAR, EXPECTATION, RULE, SECTIONS, STANDARD, declare
from wafermonitor.alerting.documents import parse, read
from wafermonitor.alerting.errors import AlertingRejected
from wafermonitor.alerting.judges import KINDS
from wafermonitor.alerting.quantities import duration_s, ratio, size_bytes

YAML = """\
rules:
  # a comment
  memory:
    limits:
      over: 8GB
routes:
  - name: a
  - name: b
    quiet:
      - {start: 22:00}
"""
TOML = """\
[rules.memory]
limits.over = "8GB"
[[routes]]
name = "a"

[[routes]]
name = "b"
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("rules",), 1),
        (("rules", "memory"), 3),
        (("rules", "memory", "limits", "over"), 5),
        (("rules", "memory", "hold"), 3),
        (("routes", 0), 7),
        (("routes", 1, "name"), 8),
        (("routes", 1, "quiet", 0, "start"), 10),
        (("nothing",), 1),
    ],
)
def test_each_value_of_yaml_has_its_line(path, line):
    assert parse(YAML, "a.yaml").where(path) == f"a.yaml:{line}"


@pytest.mark.parametrize(
    ("path", "line"),
    [(("rules", "memory"), 1), (("rules", "memory", "limits", "over"), 2), (("routes", 0, "name"), 4), (("routes", 1), 6)],
)
def test_each_value_of_toml_has_its_line(path, line):
    assert parse(TOML, "a.toml").where(path) == f"a.toml:{line}"


def test_yaml_guesses_nothing_but_numbers_and_truth():
    text = "{a: NO, b: on, c: 22:00, d: 2026-12-24, e: 1_000, f: 0x10, g: 1e3, h: true, i: null, j: '5', k: -3, l: 1.}"
    assert parse(text, "a.yaml").data == {
        "a": "NO", "b": "on", "c": "22:00", "d": "2026-12-24", "e": "1_000", "f": "0x10", "g": 1000.0, "h": True, "i": None,
        "j": "5", "k": -3, "l": 1.0,
    }  # fmt: skip


def test_aliases_are_followed_and_one_that_leads_back_is_refused():
    assert parse("a: &x {b: 1}\nc: *x", "a.yaml").data == {"a": {"b": 1}, "c": {"b": 1}}
    with pytest.raises(AlertingRejected, match=r"a\.yaml:1: more than 50 levels"):
        parse("a: &x {b: *x}", "a.yaml")


def test_a_bomb_of_aliases_is_refused():
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(AlertingRejected, match="values"):
        parse("\n".join(rows), "a.yaml")


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("15m", 900),
        ("1h30m", 5400),
        ("2 d", 172_800),
        ("1h 5min", 3900),
        ("1.5h", 5400),
        ("250ms", 0.25),
        (0, 0),
        ("1w", 604_800),
    ],
)
def test_durations(text, length):
    assert duration_s(text) == length


@pytest.mark.parametrize("text", ["", "15", "m", "-5m", "5 apples", "1h-5m", "5m!", 5, 5.0, True, None, [], "1e3s"])
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match="expected a duration such as 30s"):
        duration_s(text)


def test_sizes_and_shares():
    assert (size_bytes("8GB"), size_bytes("1.5 MiB"), size_bytes("12B")) == (8e9, 1.5 * 2**20, 12)
    assert (ratio("10%"), ratio(0.25), ratio(3)) == (0.1, 0.25, 3)
    for wrong in ("8", "8GB2MB", 8, "GB"):
        with pytest.raises(ValueError, match="expected a size"):
            size_bytes(wrong)
    for wrong in ("10", "-5%", True, None):
        with pytest.raises(ValueError, match="expected a share"):
            ratio(wrong)


names = st.sampled_from(
    [*SECTIONS, *CALENDAR, *EXPECTATION, *RULE, "a", "memory", "x y", "", "from", "to", "within", "on", "url"]
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 10**20),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["15m", "8GB", "10%", "0 2 * * *", "UTC", "Europe/Berlin", "DE", "BY", "end", "2026-12-24", *KINDS]),
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4), max_leaves=12
)
files = st.dictionaries(
    names, values | st.dictionaries(names, st.dictionaries(names, values, max_size=5), max_size=3), max_size=4
)


@given(files)
def test_any_file_is_a_declaration_or_mistakes_with_lines(data):
    document = parse(yaml.safe_dump(data, allow_unicode=True), "fab.yaml")
    mistakes = []
    try:
        declare([read(STANDARD), document], 2026)
    except AlertingRejected as refused:
        mistakes = str(refused).splitlines()
    assert [line for line in mistakes if not re.match(r"fab\.yaml:\d+: |channels and routes: ", line)] == []


@given(st.text(max_size=60), st.sampled_from(["a.yaml", "a.toml"]))
def test_any_text_is_a_document_or_refused(text, name):
    try:
        known = parse(text, name).where(())
    except AlertingRejected as refused:
        known = str(refused)
    assert known.startswith(f"{name}:")
