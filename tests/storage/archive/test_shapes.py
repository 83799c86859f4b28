"""JSON comes back from its columns letter by letter, whatever it is."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wafermonitor.storage.archive.shapes import Leaf, shape_of

_encode = msgspec.json.Encoder(order="sorted").encode
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20),
    st.from_regex(r"median [0-9]{1,3}\.[0-9]{4} V", fullmatch=True),
)
KEYS = st.sampled_from(["a", "b", "attributes", "time_ns", "wafer.lot.ids", "x/y", "ä", "", "text", "more", "x", "x (int)"])
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=8
)
BASE = 1_790_000_000_123_456_789


@given(st.lists(st.one_of(st.none(), VALUES), max_size=8), st.integers(0, 8))
def test_any_text_comes_back_from_the_columns_of_any_sample(values, sampled):
    texts = [None if value is None else _encode(value).decode() for value in values]
    shape = shape_of("attributes", texts[:sampled])
    columns = shape.columns(texts, [BASE] * len(texts))
    assert shape.texts(columns, [BASE] * len(texts)) == texts
    names = [one.name for one in shape.schema()]
    assert len(names) == len(set(names)) == len(columns)


def test_keys_that_are_called_like_columns_stand_with_what_has_none():
    text = '{"more":"a","text":"b","x":1,"x (int)":"c"}'
    shape = shape_of("attributes", [text])
    assert len(shape.leaves) == 1
    assert shape.texts(shape.columns([text], [0]), [0]) == [text]


@pytest.mark.parametrize(
    "text", ['{"b": 1, "a": 2}', '{"a":1.0e3}', '{"a":1,"a":2}', "[1, 2]", '{"b":1,"a":2}', "{}", "[]", '""', "null"]
)
def test_a_text_in_another_form_stands_whole(text):
    assert json.loads(text) is not False
    shape = shape_of("body", [text, '{"a":1}'])
    assert shape.texts(shape.columns([text], [0]), [0]) == [text]


def test_a_frequent_key_becomes_a_column_of_its_type():
    texts = [f'{{"hit":true,"n":{number},"ratio":{number / 7},"wafer.lot.ids":"L{number}"}}' for number in range(1, 50)]
    leaves = shape_of("attributes", texts).leaves
    assert leaves == (
        Leaf(("hit",), "bool"),
        Leaf(("n",), "int"),
        Leaf(("ratio",), "float"),
        Leaf(("wafer.lot.ids",), "text"),  # people search for it: never taken apart
    )


def test_a_text_whose_numbers_alone_change_is_taken_apart():
    texts = [f'{{"note":"sigma 0.{number:06} V"}}' for number in range(100)]
    shape = shape_of("attributes", texts)
    kinds = [leaf.kind for leaf in shape.leaves]
    assert kinds == ["number 0", "number 1", "pattern", "text"]
    columns = shape.columns([*texts, '{"note":"no number"}', '{"note":"# 7"}'], [0] * 102)
    assert set(columns[2]) == {"sigma #.###### V", None}
    assert shape.texts(columns, [0] * 102)[-2:] == ['{"note":"no number"}', '{"note":"# 7"}']


def test_times_inside_are_kept_as_distances():
    shape = shape_of("events", [f'[{{"attributes":{{}},"name":"x","time_ns":{BASE + 5}}}]'])
    (place,) = [place for place, leaf in enumerate(shape.leaves) if leaf.kind == "after"]
    assert shape.columns([f'[{{"attributes":{{}},"name":"x","time_ns":{BASE + 5}}}]'], [BASE])[place] == (5,)
