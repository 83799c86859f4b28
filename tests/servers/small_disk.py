"""A file system that is soon full, for whoever may mount one (root): a memory file system of a given size.

    disk = small_disk.start(256 << 20)
    with disk.full():      # no byte is left until the block ends
        ...
    disk.stop()            # unmounts it, and removes the folder

Skip the test when `small_disk.missing()` says why none can be had. All calls block.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

BLOCK_BYTES = 1 << 20


@cache
def missing() -> str | None:
    """Why no file system can be mounted here; None when one can."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return "only root can mount a small file system, and only where there is a mount command"
    try:
        start(BLOCK_BYTES).stop()
    except OSError as error:
        return f"this machine lets root mount nothing: {error}"
    return None


def start(size_bytes: int) -> Server:
    """An empty file system of that size; other users may pass through its top folder. OSError when it cannot be mounted."""
    home = Path(tempfile.mkdtemp(prefix="wafer-small-disk-"))
    words = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes},mode=0711", "tmpfs", str(home)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        home.rmdir()
        raise OSError(done.stderr.strip())
    return Server(home)


class Server:
    """One mounted file system. `home` is its top folder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._ballast = home / "ballast"

    @property
    def free_bytes(self) -> int:
        """What is left."""
        return shutil.disk_usage(self.home).free

    @contextmanager
    def full(self) -> Iterator[None]:
        """Take every byte that is left, and give it back at the end."""
        try:
            with self._ballast.open("ab", buffering=0) as ballast:
                size = BLOCK_BYTES
                while size:
                    try:
                        ballast.write(bytes(size))
                    except OSError:  # the block does not fit: a smaller one may
                        size //= 2
            yield
        finally:
            self._ballast.unlink(missing_ok=True)

    def stop(self) -> None:
        """Unmount it; whatever it held is gone."""
        subprocess.run(["umount", "-l", str(self.home)], check=True)
        self.home.rmdir()
