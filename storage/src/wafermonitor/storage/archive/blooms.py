"""Whether a row group can hold a value, told by 32 bytes of it: Parquet's Bloom filters, which Arrow writes but does not ask.

In: an opened file, its footer, a column, values as bytes. Out: no, or maybe. Called by: `files`.

Source: the Parquet format's BloomFilter.md (split blocks, XXH64 of the plain bytes without their length, seed 0).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

_WORD, _LONG = 2**32 - 1, 2**64 - 1
_BLOCK_BYTES = 32
_SALTS = (0x47B6137B, 0x44974D91, 0x8824AD5B, 0xA2B7289D, 0x705495C7, 0x2DF1424B, 0x9EFC4947, 0x5C6BFB31)
_P1, _P2, _P3, _P4, _P5 = (
    0x9E3779B185EBCA87,
    0xC2B2AE3D27D4EB4F,
    0x165667B19E3779F9,
    0x85EBCA77C2B2AE63,
    0x27D4EB2F165667C5,
)
_STRIPE_BYTES = 32


def may_hold(source: Any, footer: Any, group: int, column: str, values: Iterable[bytes]) -> bool:
    """False when the row group has none of these values in this column; True when it may, or has no filter.

    `column` is the path in Parquet's schema. `source` is Arrow's random access file.
    """
    row_group = footer.row_group(group)
    chunk = next(one for one in map(row_group.column, range(row_group.num_columns)) if one.path_in_schema == column)
    offset, length = chunk.bloom_filter_offset, chunk.bloom_filter_length
    if offset is None or length is None:
        return True
    # The filter is a power of two, and its head in front of it is shorter than the smallest one.
    size = 1 << (length.bit_length() - 1)
    return any(_holds(source, offset + length - size, size // _BLOCK_BYTES, xxh64(value)) for value in values)


def _holds(source: Any, start: int, blocks: int, digest: int) -> bool:
    place = start + ((digest >> 32) * blocks >> 32) * _BLOCK_BYTES
    words = struct.unpack("<8I", source.read_at(_BLOCK_BYTES, place))
    key = digest & _WORD
    return all(word >> ((key * salt & _WORD) >> 27) & 1 for word, salt in zip(words, _SALTS, strict=True))


def xxh64(data: bytes) -> int:
    """XXH64 with seed 0 (specification: Cyan4973/xxHash, doc/xxhash_spec.md)."""
    place = 0
    if len(data) >= _STRIPE_BYTES:
        lanes = [(_P1 + _P2) & _LONG, _P2, 0, -_P1 & _LONG]
        while place + _STRIPE_BYTES <= len(data):
            lanes = [_round(lane, word) for lane, word in zip(lanes, struct.unpack_from("<4Q", data, place), strict=True)]
            place += _STRIPE_BYTES
        found = sum(_rotated(lane, by) for lane, by in zip(lanes, (1, 7, 12, 18), strict=True)) & _LONG
        for lane in lanes:
            found = ((found ^ _round(0, lane)) * _P1 + _P4) & _LONG
    else:
        found = _P5
    found = (found + len(data)) & _LONG
    while place + 8 <= len(data):
        found ^= _round(0, int.from_bytes(data[place : place + 8], "little"))
        found = (_rotated(found, 27) * _P1 + _P4) & _LONG
        place += 8
    if place + 4 <= len(data):
        found ^= int.from_bytes(data[place : place + 4], "little") * _P1 & _LONG
        found = (_rotated(found, 23) * _P2 + _P3) & _LONG
        place += 4
    for byte in data[place:]:
        found = _rotated(found ^ (byte * _P5 & _LONG), 11) * _P1 & _LONG
    found = (found ^ found >> 33) * _P2 & _LONG
    found = (found ^ found >> 29) * _P3 & _LONG
    return found ^ found >> 32


def _round(lane: int, word: int) -> int:
    return _rotated((lane + word * _P2) & _LONG, 31) * _P1 & _LONG


def _rotated(value: int, by: int) -> int:
    return (value << by | value >> (64 - by)) & _LONG
