"""How much memory the process has in use, and how what is free goes back to the system.

Out: bytes. Called by: `otlp_grpc`, for messages that are still arriving: nobody can count those one by one, because gRPC says
how large a message is only when all of it is there. `server` gives back what is free, `command` bounds the arenas.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
from collections.abc import Callable
from pathlib import Path

M_ARENA_MAX = -8
"""malloc.h of glibc."""
MAX_ARENAS = 2
LOOK_S = 2.0
SLACK_BYTES = 96 * 1024 * 1024
"""Resident and not allocated; programs and libraries are 50 MiB of it."""
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


def resident_bytes() -> int:
    """What the system counts; 0 where it is not known."""
    return _resident()


def bound_arenas() -> None:
    """Two of glibc's heaps instead of eight for each core: gRPC's threads would keep what they free, each its own."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, MAX_ARENAS)


async def give_back() -> None:
    """Return free memory to the system whenever there is much of it. Runs until it is cancelled."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return
    while True:
        await asyncio.sleep(LOOK_S)
        if resident_bytes() - used_bytes() > SLACK_BYTES:
            await asyncio.to_thread(trim, 0)
