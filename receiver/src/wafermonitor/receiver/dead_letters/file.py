"""The dead letters of a bridge: what its backend will never take, one JSON object a line.

In: requests that were refused. Out: lines in a file, on disk when `append` returns. Called by: `bridge`, in its threads.

A line has `time`, `writer`, `signal`, `items`, `reason` and `request`, the OTLP/JSON of what was refused: one that is cut out
can be sent again as it is. The file grows until somebody looks; when it cannot grow, the bridge refuses instead.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from wafermonitor.instrumentation.otlp_json import request_from_proto
from wafermonitor.storage.writers.items import parsed
from wafermonitor.storage.writers.protocol import Signal


class DeadLetterFile:
    """One file, made when the first line comes; readable by its owner alone."""

    def __init__(self, path: Path, writer: str) -> None:
        self.path = path
        self._writer = writer
        self._lock = threading.Lock()

    def append(self, signal: Signal, request: bytes, items: int, reason: str) -> None:
        """Write a line and wait until it is on disk. OSError when it cannot be."""
        line = {
            "time": datetime.now(UTC).isoformat(),
            "writer": self._writer,
            "signal": signal,
            "items": items,
            "reason": reason,
            "request": request_from_proto(parsed(signal, request)),
        }
        written = (json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n").encode()
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                before = os.fstat(descriptor).st_size
                if before and os.pread(descriptor, 1, before - 1) != b"\n":
                    written = b"\n" + written  # a line that the end of the machine cut takes no other with it
                try:
                    if os.write(descriptor, written) != len(written):
                        raise OSError("no room for the whole line")  # noqa: TRY301 - the file is mended below
                except OSError:
                    os.ftruncate(descriptor, before)
                    raise
                os.fsync(descriptor)
                if not before:
                    _sync(self.path.parent)
            finally:
                os.close(descriptor)


def _sync(folder: Path) -> None:
    """A new file is on disk once its name is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def letters(path: Path) -> list[dict[str, object]]:
    """Every whole line of the file, oldest first."""
    if not path.exists():
        return []
    found = []
    for line in path.read_bytes().split(b"\n"):
        with contextlib.suppress(ValueError):  # cut, see `append`; and what follows the last line
            found.append(cast("dict[str, object]", json.loads(line)))
    return found
