"""What a change token holds: a snapshot of this database, and which database that is.

In: tokens that were given out, the answer of `snapshot.sql`. Out: the snapshot since which something may have changed, and the
next token. Called by: `reader` (runs), `watch` (alerts).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from wafermonitor.storage.errors import CursorRejected

_TOKEN = re.compile(r"(?P<origin>-?[\d.]{1,80})/(?P<snapshot>\d{1,20}:\d{1,20}:(\d{1,20}(,\d{1,20})*)?)\Z")


class Token(NamedTuple):
    """`origin`: the server, timeline and database where the numbers of `snapshot` (xmin:xmax:running) mean something."""

    origin: str
    snapshot: str

    def __str__(self) -> str:
        return f"{self.origin}/{self.snapshot}"

    def since(self, given: Token) -> str:
        """The snapshot of `given`, seen from this moment's token; CursorRejected where it cannot be of this database."""
        before, now = _bounds(given.snapshot), _bounds(self.snapshot)
        if given.origin != self.origin or before[1] > now[1] or before[0] > before[1]:
            raise CursorRejected("this change token is from another database: start again without one")
        return given.snapshot

    def cut(self, xid: int) -> Token:
        """As it was when `xid` was the newest transaction: for a page that is full and ends with that one."""
        xmin, xmax, running = self.snapshot.split(":")
        if xid >= int(xmax):
            return self
        end = xid + 1
        kept = [number for number in running.split(",") if number and int(number) < end]
        return self._replace(snapshot=f"{min(int(xmin), end)}:{end}:{','.join(kept)}")


def read_token(token: str) -> Token:
    """From text; CursorRejected when it is none."""
    given = _TOKEN.match(token)
    if given is None:
        raise CursorRejected(f"{token[:40]!r} is no change token: start again without one")
    return Token(given["origin"], given["snapshot"])


def _bounds(snapshot: str) -> tuple[int, int]:
    xmin, xmax, _ = snapshot.split(":")
    return int(xmin), int(xmax)
