"""A request's body while it arrives: counted piece by piece, never twice in memory.

In: pieces. Out: the whole. Called by: `connection` (adds), the application (makes it, takes the whole).
"""

from __future__ import annotations

import io
from collections.abc import Callable

LARGE_BYTES = 1024 * 1024
"""Above this the pieces are written into one growing buffer, which is given away without a copy."""


class Body:
    """The bytes so far. `admit` is asked before each piece is kept; what it refuses it must answer itself, returning False."""

    __slots__ = ("_admit", "_buffer", "_pieces", "seen")

    def __init__(self, admit: Callable[[int], bool]) -> None:
        self._admit = admit
        self._pieces: list[bytes] = []
        self._buffer: io.BytesIO | None = None
        self.seen = 0

    def add(self, piece: bytes) -> None:
        """One piece more."""
        self.seen += len(piece)
        if not self._admit(len(piece)):
            self._pieces, self._buffer = [], None
            return
        if self._buffer is not None:
            self._buffer.write(piece)
        elif self.seen > LARGE_BYTES:
            self._buffer = io.BytesIO()
            self._buffer.writelines(self._pieces)
            self._buffer.write(piece)
            self._pieces = []
        else:
            self._pieces.append(piece)

    def whole(self) -> bytes:
        """All of it."""
        if self._buffer is not None:
            return self._buffer.getvalue()
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
