"""Lists that go to the server as a parameter, in slices: it takes no parameter above 128 KiB.

In: keys, in any number. Out: lists of at most 1,000, and of no more text than fits. Called by: `writer`, `runs`, `names`,
`reader`, `changes`, and by `client` for the bound.
Source: ClickHouse documentation, "http_max_field_value_size" (128 KiB).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
MAX_ITEMS = 1000
"""Keys of 32 bytes are 67 bytes each on the way."""
MAX_TEXT_BYTES = 24_000
"""Of one slice's names before they are quoted, which may make each byte two, twice."""
MAX_PARAMETER_BYTES = 120_000


def slices(items: Iterable[T], text_of: Callable[[T], str] | None = None) -> Iterator[list[T]]:
    """All of `items` in order; `text_of` gives what of an item has no fixed length."""
    return packed(items, lambda item: 0 if text_of is None else len(text_of(item).encode()), MAX_ITEMS, MAX_TEXT_BYTES)


def packed(items: Iterable[T], size_of: Callable[[T], int], most: int, most_size: int) -> Iterator[list[T]]:
    """All of `items` in order, at most `most` and of `most_size` together at a time; one that is larger comes alone."""
    part: list[T] = []
    size = 0
    for item in items:
        more = size_of(item)
        if part and (len(part) == most or size + more > most_size):
            yield part
            part, size = [], 0
        part.append(item)
        size += more
    if part:
        yield part
