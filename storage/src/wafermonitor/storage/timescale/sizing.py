"""How much memory and disk the embedded server takes: a share of what the machine, or the container, has.

In: a data folder. Out: lines for its settings. Called by: `folder`, before each start.

Dedupe keeps a unique index over random ids: where its pages do not fit in `shared_buffers`, each row reads and writes some; and
after each checkpoint the first row on a page writes the whole page to the log, so checkpoints must be far apart.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

_MIB = 1024**2
_BUFFERS_MIB = (128, 2048)
"""Least and most for shared_buffers, within which it is an eighth of the memory."""
_LOG_MIB = (256, 8192)
"""Least and most for max_wal_size, within which it is an eighth of the free disk."""
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def settings(data: Path) -> str:
    """`shared_buffers` and `max_wal_size` for this machine and the disk of `data`."""
    return lines(memory_bytes(), shutil.disk_usage(data).free)


def lines(memory: int, free: int) -> str:
    """The same for this much memory and free disk (bytes)."""
    buffers, log = _share(memory, _BUFFERS_MIB), _share(free, _LOG_MIB)
    return f"shared_buffers = {buffers}MB\nmax_wal_size = {log}MB\n"


def memory_bytes() -> int:
    """What the machine has, or what the container may use."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for limit in _LIMITS:
        with suppress(OSError, ValueError):  # "max" is no number: no limit
            found.append(int(limit.read_text()))
    return min(found)


def _share(available: int, bounds: tuple[int, int]) -> int:
    least, most = bounds
    return max(least, min(most, available // 8 // _MIB))
