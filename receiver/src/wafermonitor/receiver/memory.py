"""How much memory the process has in use.

Out: bytes. Called by: `server`, for gRPC messages that are still arriving: nobody can count those one by one, because gRPC
says how large a message is only when all of it is there.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

_PAGES = Path("/proc/self/statm")


class _Mallinfo2(ctypes.Structure):
    """mallinfo2(3) of glibc."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    )  # fmt: skip


def _of_allocator() -> Callable[[], int] | None:
    """What is allocated and not freed: unlike the resident size it goes down when something is freed."""
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError):
        return None
    mallinfo2.restype = _Mallinfo2

    def used() -> int:
        found = mallinfo2()
        return int(found.uordblks + found.hblkhd)

    return used


def _resident() -> int:
    """Where the allocator does not tell: the resident size; 0 where not even that is known."""
    try:
        return int(_PAGES.read_text(encoding="ascii").split()[1]) * 4096
    except OSError:
        return 0


used_bytes: Callable[[], int] = _of_allocator() or _resident
"""Costs up to half a millisecond: not for every request."""
