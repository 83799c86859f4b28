"""Start a program inside a folder that holds a whole system, as one of its accounts; it ends when its starter is gone.

In: `chrooted.py <folder> <what tether.py takes>`; paths are those inside. Out: the program, in this very process.
Called by: `timescaledb`. As root only.
"""

from __future__ import annotations

import os
import sys

from wafermonitor.instrumentation import tether

if __name__ == "__main__":
    os.chroot(sys.argv[1])
    os.chdir("/")
    tether.main(sys.argv[2:])
