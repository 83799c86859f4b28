"""What a process costs: CPU seconds with its reaped children, and the memory of its process tree.

In: the kernel's accounting and /proc. Out: seconds and bytes; None where the system has no /proc.
Called by: `processor` at a run's start and end, `heartbeat` once a second, the metrics.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Final

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_PROC: Final = Path("/proc")


def cpu_s() -> tuple[float, float]:
    """User and system seconds of this process and of the children it has waited for."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    reaped = resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + reaped.ru_utime, own.ru_stime + reaped.ru_stime


def memory_bytes(pid: int | str = "self") -> int | None:
    """Resident memory of one process."""
    try:
        descriptor = os.open(f"/proc/{pid}/statm", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return int(os.read(descriptor, 128).split()[1]) * _PAGE_BYTES
    except (OSError, IndexError):
        return None  # it ended between the two calls
    finally:
        os.close(descriptor)


def tree_memory_bytes() -> int | None:
    """Resident memory of this process and all its descendants. Pages they share count more than once."""
    own = memory_bytes()
    if own is None:
        return None
    return own + sum(memory_bytes(pid) or 0 for pid in descendants(os.getpid()))


def descendants(pid: int) -> list[int]:
    """The processes below `pid`, by the kernel's own lists; a process that ends meanwhile is left out."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        children = _children(waiting.pop())
        found += children
        waiting += children
    return found


def _children(pid: int) -> list[int]:
    children: list[int] = []
    try:
        threads = list((_PROC / str(pid) / "task").iterdir())
    except OSError:
        return children
    for thread in threads:
        try:
            children += map(int, (thread / "children").read_bytes().split())
        except OSError:
            continue
    return children


def uptime_s() -> float:
    """Seconds since this process began, by the kernel's clock; 0.0 where the system has no /proc."""
    try:
        began = int((_PROC / "self/stat").read_bytes().rpartition(b")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        return max(float((_PROC / "uptime").read_bytes().split()[0]) - began, 0.0)
    except (OSError, ValueError, IndexError):
        return 0.0
