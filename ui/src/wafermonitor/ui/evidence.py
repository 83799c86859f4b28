"""The numbers of an alert as people read them.

In: the evidence of an alert, names with their unit at the end. Out: `Fact`s. Called by: pages.alerts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from wafermonitor.ui.address import RUN_ID
from wafermonitor.ui.clock import duration, file_size, number
from wafermonitor.ui.render import plain, plural

_PERCENT = 100.0


class Fact(NamedTuple):
    """A name and its value in words; `at` (RFC 3339) where it is a time, which the page moves to the viewer's zone.

    `runs`: the {run}s that it names.
    """

    label: str
    words: str
    at: str | None = None
    runs: tuple[str, ...] = ()


def facts(evidence: Mapping[str, Any]) -> list[Fact]:
    """One for each entry, in its order."""
    return [_fact(name, value) for name, value in evidence.items() if value is not None]


def _fact(name: str, value: Any) -> Fact:
    label, unit = name, ""
    for ending in _WORDS:
        if name.endswith(f"_{ending}") or name == ending:
            label, unit = name.removesuffix(f"_{ending}"), ending
            break
    label = label.replace("_", " ").replace(".", " ")
    if runs := _runs(value):
        return Fact(label, plural("run", len(runs)), runs=runs)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Fact(label, *_text(value))
    try:
        if unit == "ns":
            moment = datetime.fromtimestamp(value / 1e9, UTC).isoformat()
            return Fact(label, moment, moment)
        return Fact(label, _WORDS[unit](value) if unit else number(value))
    except (ValueError, OverflowError, OSError):
        return Fact(label, plain(value))  # not a number, or one that is no time


def _text(value: Any) -> tuple[str, str | None]:
    if isinstance(value, bool):
        return "yes" if value else "no", None
    if isinstance(value, list) and all(isinstance(one, str | int | float) for one in value):
        return ", ".join(number(one) if isinstance(one, float) else str(one) for one in value), None
    if isinstance(value, str):
        return value, _instant(value)
    return plain(value), None


def _runs(value: Any) -> tuple[str, ...]:
    several = value if isinstance(value, list) else [value]
    return tuple(several) if several and all(isinstance(one, str) and RUN_ID.match(one) for one in several) else ()


def _instant(text: str) -> str | None:
    """The text where it is an RFC 3339 time with a zone."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return text if moment.tzinfo is not None else None


_WORDS: dict[str, Callable[[float], str]] = {
    "s": duration,
    "ns": str,
    "bytes": file_size,
    "ratio": lambda value: f"{value * _PERCENT:.3g} %",
    "rate": lambda value: f"{value * _PERCENT:.3g} %",
    "percent": lambda value: f"{value:.3g} %",
}
