"""Removes the demo's folder when everything that works in it has ended, even by kill -9.

In: `sweeper.py <folder>`, and a pipe on stdin whose other end the demo and its services hold. Out: the folder is gone.
Called by: `demo.work_folder`, in isolated mode, in a session of its own so that Ctrl-C does not reach it.

It is a process of its own because a killed one cannot tidy up; the end of the pipe says that the last holder has ended.
"""

from __future__ import annotations

import shutil
import sys


def main(folder: str) -> None:
    """Wait for the last holder, then remove."""
    sys.stdin.buffer.read()
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1])
