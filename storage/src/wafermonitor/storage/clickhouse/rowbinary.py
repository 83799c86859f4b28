"""Values in ClickHouse's RowBinary, one after another as the columns stand.

In: numbers, text, bytes. Out: bytes. Called by: `rows`. ValueError, OverflowError or struct.error for what no column can hold.
Source: ClickHouse documentation, "RowBinary": integers little-endian, strings behind their length as LEB128, null as a byte.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence

uint32 = struct.Struct("<I").pack
int32 = struct.Struct("<i").pack
int64 = struct.Struct("<q").pack
uint64 = struct.Struct("<Q").pack
float64 = struct.Struct("<d").pack
_SHORT = 128
_LENGTHS = [bytes([length]) for length in range(_SHORT)]


def length_of(count: int) -> bytes:
    """An unsigned number in LEB128."""
    if count < _SHORT:
        return _LENGTHS[count]
    parts = bytearray()
    while count >= _SHORT:
        parts.append(count & 127 | 128)
        count >>= 7
    parts.append(count)
    return bytes(parts)


def text(value: str) -> bytes:
    """A String. UnicodeEncodeError (a ValueError) for a lone surrogate."""
    return blob(value.encode())


def blob(value: bytes) -> bytes:
    """A String of any bytes."""
    size = len(value)
    return (_LENGTHS[size] if size < _SHORT else length_of(size)) + value


def fixed(value: bytes | None, size: int) -> bytes:
    """A FixedString; None is all zeros."""
    if value is None:
        return bytes(size)
    if len(value) != size:
        raise ValueError(f"an id or key has {size} bytes, not {len(value)}")
    return value


def nullable(value: int | None) -> bytes:
    """A Nullable(Int64)."""
    return b"\1" if value is None else b"\0" + int64(value)


def nullable_number(value: float | None) -> bytes:
    """A Nullable(Float64)."""
    return b"\1" if value is None else b"\0" + float64(value)


def finite(value: float) -> bytes:
    """A Float64; ValueError for a number that JSON would not have: the store would take it, and no reader."""
    if not math.isfinite(value):
        raise ValueError("a number is not finite")
    return float64(value)


def array(values: Sequence[str], encode: Callable[[str], bytes] = text) -> bytes:
    """An Array(String)."""
    return length_of(len(values)) + b"".join(map(encode, values))


def numbers(values: Sequence[float] | None, letter: str) -> bytes:
    """An Array(Float64) (`d`) or Array(Int64) (`q`); None is empty."""
    return length_of(len(values)) + struct.pack(f"<{len(values)}{letter}", *values) if values else b"\0"
