"""Durations and times in words."""

from __future__ import annotations

import pytest

from wafermonitor.ui.clock import duration, epoch_ms, file_size, number, remaining_s, seconds_between, utc_words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "–"),
        (-3, "0 ns"),
        (4.12e-7, "412 ns"),
        (0.0000312, "31 µs"),
        (0.0874, "87 ms"),
        (4.24, "4.2 s"),
        (42.4, "42 s"),
        (59.7, "1m 00s"),
        (252, "4m 12s"),
        (3599.6, "1h 00m"),
        (11_100, "3h 05m"),
        (187_200, "2d 04h"),
    ],
)
def test_a_duration_has_two_figures_that_matter(seconds, words):
    assert duration(seconds) == words


def test_nanoseconds_of_a_time_do_not_hurt():
    assert epoch_ms("2026-05-29T07:47:26.437123456Z") == pytest.approx(1780040846437.123, abs=0.001)
    assert epoch_ms(None) is None
    assert utc_words("2026-05-29T09:47:26+02:00") == "07:47:26 UTC"
    assert seconds_between("2026-05-29T07:00:00Z", "2026-05-29T07:00:02.5Z") == 2.5


def test_the_time_left_follows_the_pace_so_far():
    assert remaining_s(60, 0.25) == 180
    assert remaining_s(60, 0.001) is None
    assert remaining_s(60, 1.0) is None


def test_sizes_and_numbers_carry_their_unit():
    assert [file_size(value) for value in (None, 812, 14_200_000, 235_000_000, 7_900_000_000)] == [
        "–",
        "812 B",
        "14.2 MB",
        "235 MB",
        "7.9 GB",
    ]
    assert [number(value) for value in (None, 1569, 0.25, 14.6)] == ["–", "1,569", "0.25", "14.6"]
