"""The last step before PostgreSQL: give up root, ask to be stopped when the supervisor dies, become the server.

In: `<supervisor pid> <uid> <gid> <program> <arguments…>` (uid -1 keeps the account). Out: the program, in this very process.
Called by: `folder.command`, as a script of its own (`python -I -S launch.py …`), because code between fork and exec in a
process with threads can hang. It imports nothing but the standard library.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
"""prctl(2), Linux."""


def main(arguments: list[str]) -> None:
    """Never returns: the process becomes the program, or ends."""
    supervisor, uid, gid = (int(word) for word in arguments[:3])
    program = arguments[3:]
    if uid >= 0:
        os.setgroups([gid])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":
        # After setuid, which clears it. SIGINT is PostgreSQL's fast and orderly shutdown.
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGINT), 0, 0, 0)
    if os.getppid() != supervisor:
        sys.exit(f"the supervisor {supervisor} is gone")
    os.execv(program[0], program)  # noqa: S606 - replacing this process is its purpose


if __name__ == "__main__":
    main(sys.argv[1:])
