"""Durations, sizes and shares as people write them: `15m`, `1h30m`, `8GB`, `10%`.

In: text or a number. Out: s, bytes, a ratio; ValueError says what is expected. Called by: declared, `wafer alerting test`.
"""

from __future__ import annotations

import re

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}
_BYTES = {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30, "TiB": 2.0**40}
_PIECE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]+)\s*")
DURATION = "a duration such as 30s, 15m, 1h30m or 2d"
SIZE = "a size such as 500MB or 8GB"
RATIO = "a share such as 0.1 or 10%"


def duration_s(value: object) -> float:
    """`1h30m` → 5400.0. A number alone is refused: nobody knows of what."""
    if value == 0 and not isinstance(value, bool):
        return 0.0
    pieces = _pieces(value, _SECONDS, DURATION)
    return sum(number * _SECONDS[unit] for number, unit in pieces)


def size_bytes(value: object) -> float:
    """`8GB` → 8e9, `8GiB` → 8·2³⁰."""
    pieces = _pieces(value, _BYTES, SIZE)
    if len(pieces) != 1:
        raise ValueError(f"{value!r}: expected {SIZE}")
    return pieces[0][0] * _BYTES[pieces[0][1]]


def ratio(value: object) -> float:
    """`10%` → 0.1; a number is itself."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and (match := re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*%", value.strip())):
        return float(match[1]) / 100
    raise ValueError(f"{value!r}: expected {RATIO}")


def _pieces(value: object, units: dict[str, float], expected: str) -> list[tuple[float, str]]:
    text = value.strip() if isinstance(value, str) else ""
    pieces = [(float(number), unit) for number, unit in _PIECE.findall(text)]
    whole = "".join(match[0] for match in _PIECE.finditer(text))
    if not pieces or whole != text:
        raise ValueError(f"{value!r}: expected {expected}")
    for _, unit in pieces:
        if unit not in units:
            raise ValueError(f"{value!r}: {unit!r} is no unit here; expected {expected}")
    return pieces
