"""Numbers in a sentence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wafermonitor.runs import wording


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.25, "0.25 s"),
        (4.24, "4.2 s"),
        (9.999, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (185, "3 min 5 s"),
        (3599.7, "1 h"),
        (7500, "2 h 5 min"),
        (273_600, "3 d 4 h"),
        (-12, "12 s"),
    ],
)
def test_durations_have_two_units_at_most(seconds, words):
    assert wording.spell_duration(seconds) == words


@given(st.floats(-1e9, 1e9))
def test_any_duration_has_words(seconds):
    assert wording.spell_duration(seconds)[0].isdigit()


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ((402, 1_300, "image"), "402 of 1,300 images"),
        ((0, 1, "wafer"), "0 of 1 wafer"),
        ((1, 2, "pass"), "1 of 2 pass"),
        ((0.5, 2, "GB"), "0.5 of 2 GB"),
        ((3, 2_000_000, "die"), "3 of 2,000,000 dies"),
        ((3, 60, "s"), "3 of 60 s"),
        ((3, 60, None), "3 of 60"),
    ],
)
def test_a_part_has_the_unit_of_the_whole(part, words):
    assert wording.spell_part(*part) == words


def test_other_numbers():
    assert wording.spell_time(1_780_000_000_999_999_999) == "2026-05-28 20:26:40 UTC"
    assert [wording.spell_bytes(size) for size in (12, 7_912_000_000, 5e15)] == ["12 B", "7.91 GB", "5000 TB"]
    assert [wording.spell_times(ratio) for ratio in (1.57, 4.0, 12.4)] == ["1.6 times", "4 times", "12 times"]
    assert [wording.spell_count(count, "run") for count in (0, 1, 2)] == ["0 runs", "1 run", "2 runs"]
    assert [wording.spell_list(words) for words in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]
