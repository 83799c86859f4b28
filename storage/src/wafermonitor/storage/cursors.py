"""Cursors: the place of a page's last item in the order, so that rows which arrive meanwhile move nothing.

In: that item's order (numbers and hex texts). Out: opaque text, and back. Called by: the readers of every engine.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from wafermonitor.storage.errors import CursorRejected

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
