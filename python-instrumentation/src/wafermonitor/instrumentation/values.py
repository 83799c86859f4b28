"""Attribute values that OTLP can carry, whatever a program hands over.

In: any Python value. Out: texts, truth values, numbers, and lists of them. Called by: `jobs`, `progress`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from wafermonitor.instrumentation.otlp_json import text

_INT64: Final = range(-(2**63), 2**63)


def clean(value: Any) -> Any:
    """Numpy's scalars become Python's, what has no number in OTLP becomes text, and so does anything unknown."""
    if isinstance(value, bool | float):
        return float(value) if isinstance(value, float) else value
    if isinstance(value, str):
        return value if value.isascii() else text(value)
    if isinstance(value, int):
        return int(value) if value in _INT64 else str(value)
    if isinstance(value, Iterable) and not isinstance(value, Mapping | bytes):
        return [clean(item) for item in value]
    if callable(getattr(value, "item", None)):
        return clean(value.item())
    return text(str(value))
