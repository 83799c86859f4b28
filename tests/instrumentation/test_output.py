"""What is read from a command's output about progress."""

import pytest

from wafermonitor.instrumentation.announce import progress_of
from wafermonitor.instrumentation.output import compile_pattern, matched


@pytest.mark.parametrize(
    ("line", "ratio", "message"),
    [
        ("3/25 wafer 3", 0.12, "wafer 3"),
        (" 3 / 25 ", 0.12, ""),
        ("0.5 half", 0.5, "half"),
        ("12%", 0.12, ""),
        ("12 % of it", 0.12, "of it"),
        ("1", 1.0, ""),
        ("30/25", 1.0, ""),
        ("3/0", None, ""),
    ],
)
def test_a_line_says_done_of_total_a_ratio_or_a_percentage(line, ratio, message):
    found = progress_of(line)
    assert (found.ratio, found.message) == (ratio, message)


@pytest.mark.parametrize("line", ["", "wafer 3", "3/", "-1/3", "7", "200%", "1.2.3", "3/25wafer"])
def test_anything_else_is_no_progress(line):
    assert progress_of(line) is None


@pytest.mark.parametrize(
    ("pattern", "line", "ratio"),
    [
        (r"(\d+) of (\d+)", b"wafer 3 of 25 \xff", 0.12),
        (r"(?P<total>\d+) in all, (?P<done>\d+) done", b"25 in all, 3 done", 0.12),
        (r"(\d+)%", b" 12%", 0.12),
        (r"at ([\d.]+)", b"at 0.12", 0.12),
        (r"(?P<ratio>[\d.]+)", b"0.12", 0.12),
        (r"(?P<percent>[\d.]+)", b"0.5", 0.005),
        (r"(\d+) of (\d+)", b"nothing", None),
        (r"(\w+) of (\w+)", b"some of many", None),
        (r"(?P<ratio>[\d.]+)", b"7", None),
    ],
)
def test_a_pattern_finds_it_in_any_bytes(pattern, line, ratio):
    found = matched(compile_pattern(pattern), line)
    assert (found and found.ratio) == ratio


def test_a_pattern_carries_its_message():
    assert matched(compile_pattern(r"(?P<percent>\d+)% (?P<message>.*)"), "5% Ätzen".encode()).message == "Ätzen"


@pytest.mark.parametrize("pattern", ["(", "done", "(?P<name>x)"])
def test_a_pattern_that_says_nothing_is_refused(pattern):
    with pytest.raises(ValueError):
        compile_pattern(pattern)
