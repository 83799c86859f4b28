"""Start a program that ends when the one who started it is gone, even by kill -9.

In: `tether.py <pid of the starter> <program> <arguments …>`. Out: the program, in this very process.
Called by: `child`, as a script by path, so that nothing is imported but what stands here.

Linux tells a child of its parent's death only if the child asked, so this asks and then becomes the program (the request
survives exec). Elsewhere the program is started all the same.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask to be told, make sure that the starter still lives, become the program."""
    starter, *command = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))
    if os.getppid() != int(starter):
        sys.exit(1)  # it died before it could be watched
    os.execvp(command[0], command)  # noqa: S606 - the arguments are a list, and come from `supervise`


if __name__ == "__main__":
    main()
