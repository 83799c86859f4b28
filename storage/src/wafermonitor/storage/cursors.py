"""Cursors: the place of a page's last item in the order, so that rows which arrive meanwhile move nothing.

In: that item's order (numbers and texts). Out: opaque text, and back. Called by: the readers of every engine.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any, TypeVar

from wafermonitor.storage.errors import CursorRejected
from wafermonitor.storage.protocol import Page, page_limit

T = TypeVar("T")
NEWEST_RUN = (int, str, str, str)
"""Start, trace, span, site."""
FAILING_RUN = (int, *NEWEST_RUN)
"""Rank, then as newest."""
SPAN = (int, str, str)
"""Start, span, site."""
NEWEST_SPAN = (int, str, str, str)
"""Start, trace, span, site."""
LOG = (int, str)
"""Time, digest."""
DEAD_LETTER = (int, str)
"""When it was received, key."""
ALERT = (int, str)
"""When it was opened, negative; id."""
EXPECTED_RUN = (int, str, str)
"""Nominal time, negative; expectation, subject."""


def write_cursor(*order: int | str) -> str:
    """Opaque text that is safe in a URL."""
    return base64.urlsafe_b64encode(json.dumps(order).encode()).decode()


def read_cursor(cursor: str, shape: tuple[type, ...]) -> tuple[Any, ...]:
    """The order again; CursorRejected when it is not one of the shape that this question has."""
    try:
        order = json.loads(base64.urlsafe_b64decode(cursor.encode()))
    except (ValueError, RecursionError):
        order = None
    if not isinstance(order, list) or [type(part) for part in order] != list(shape):
        raise CursorRejected("this cursor was not given for this question: start again without one")
    return tuple(order)


def id_of(text: str, size: int) -> bytes:
    """An id inside a cursor, from hex."""
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != size:
        raise CursorRejected("this cursor was not given for this question: start again without one")
    return value


def page_of(
    items: list[T], order: Callable[[T], tuple[Any, ...]], shape: tuple[type, ...], cursor: str | None, limit: int
) -> Page[T]:
    """Keyset paging: the cursor is the order of the last item given, so rows that arrive meanwhile change nothing behind it."""
    limit = page_limit(limit)
    items.sort(key=order)
    if cursor is not None:
        after = read_cursor(cursor, shape)
        items = [item for item in items if order(item) > after]
    more = len(items) > limit
    items = items[:limit]
    return Page(items, write_cursor(*order(items[-1])) if more else None)
