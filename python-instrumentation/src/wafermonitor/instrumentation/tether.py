"""Start a program that ends when the one who started it is gone, even by kill -9.

In: `tether.py <pid of the starter> <signal> <uid> <gid> <path of the program> <arguments …>` (uid -1 keeps the
account). Out: the program, in this very process. Called by: whoever keeps a child process: the Collector's supervisor, the
embedded store, `wafer up`; in isolated mode, so that nothing is imported but what stands here.

Linux tells a child of its parent's death only if the child asked, so this asks and then becomes the program (the request
survives exec). Elsewhere the program is started all the same. It is a program and no `preexec_fn`, because code between fork
and exec in a process with threads can hang.
"""

from __future__ import annotations

import ctypes  # here, because the other account may not be able to read Python's own files
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1
"""prctl(2), Linux."""


def tethered(
    program: Sequence[str], number: signal.Signals = signal.SIGTERM, *, account: tuple[int, int] | None = None
) -> list[str]:
    """The command that runs `program` (its path first) and gives it `number` when this process is gone. `account`: uid, gid."""
    uid, gid = account or (-1, -1)
    return [sys.executable, "-I", "-S", __file__, *(str(int(word)) for word in (os.getpid(), number, uid, gid)), *program]


def main(arguments: list[str]) -> None:
    """Never returns: the process becomes the program, or ends."""
    starter, number, uid, gid = (int(word) for word in arguments[:4])
    program = arguments[4:]
    if uid >= 0:
        os.setgroups([gid])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":
        # After setuid, which clears it.
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != starter:
        sys.exit(f"{program[0]} is not started: process {starter}, which asked for it, is gone")
    try:
        os.execv(program[0], program)  # noqa: S606 - becoming the program is its purpose; no shell is wanted
    except OSError as error:
        sys.exit(f"{program[0]}: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
