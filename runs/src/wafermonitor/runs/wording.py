"""Numbers as people read them in a sentence: durations, times, counts, sizes.

In: seconds, ns, bytes. Out: text, the same for the same number.  Called by: explain, absence, paths.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND_NS = 1_000_000_000
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400
_MANY_S = 10
_UNITS = ("B", "KB", "MB", "GB", "TB")
_STEP = 1000
_MANY_BYTES = 100
_WORD = re.compile("[a-z]{3,}")
"""A thing that is counted; what is shorter or has capitals is the sign of a unit, which has no plural."""


def spell_duration(seconds: float) -> str:
    """`0.25 s`, `4.2 s`, `12 s`, `3 min 5 s`, `2 h 5 min`, `3 d 4 h`: two units at most."""
    seconds = abs(seconds)
    whole = round(seconds)
    if whole < _MINUTE_S:
        return f"{whole} s" if seconds >= _MANY_S else f"{seconds:.2g} s"
    if whole < _HOUR_S:
        return _two(whole, _MINUTE_S, "min", 1, "s")
    if whole < _DAY_S:
        return _two(whole, _HOUR_S, "h", _MINUTE_S, "min")
    return _two(whole, _DAY_S, "d", _HOUR_S, "h")


def spell_time(at_ns: int) -> str:
    """`2026-05-28 20:26:40 UTC`."""
    moment = _EPOCH + timedelta(seconds=at_ns // _SECOND_NS)
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def spell_bytes(size: float) -> str:
    """`7.9 GB` (10⁹)."""
    unit = 0
    while size >= _STEP and unit < len(_UNITS) - 1:
        size /= _STEP
        unit += 1
    return f"{size:.0f} {_UNITS[unit]}" if size >= _MANY_BYTES else f"{size:.3g} {_UNITS[unit]}"


def spell_times(ratio: float) -> str:
    """`4 times`, `1.6 times`: how much more."""
    return f"{ratio:.2g} times" if ratio < _MANY_S else f"{ratio:.0f} times"


def spell_count(count: int, thing: str) -> str:
    """`1 run`, `3 runs`."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def spell_part(done: float, total: float, unit: str | None) -> str:
    """`402 of 1,300 images`, `0.5 of 2 GB`: a unit that is a word is in the plural unless `total` is one."""
    word = unit or ""
    if total != 1 and _WORD.fullmatch(word) and not word.endswith("s"):
        word += "s"
    return f"{_spell_number(done)} of {_spell_number(total)} {word}".rstrip()


def spell_list(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    if len(words) < 2:  # noqa: PLR2004 - with one word there is nothing to join
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"


def _spell_number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"


def _two(whole: int, large: int, large_unit: str, small: int, small_unit: str) -> str:
    rest = whole % large // small
    return f"{whole // large} {large_unit}" + (f" {rest} {small_unit}" if rest else "")
