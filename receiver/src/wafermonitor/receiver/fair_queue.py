"""Where admitted requests wait: one line for each site, served in turns by bytes, so that no site can starve another.

In: requests with their site. Out: the requests of the next group. Called by: `pipeline`. Deficit round robin: in its turn a
line may give as many bytes as its credit has, and what is left of the credit stays for the next turn (Shreedhar and Varghese,
"Efficient Fair Queuing Using Deficit Round-Robin", 1995).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from wafermonitor.receiver.answers import Answer
from wafermonitor.receiver.errors import ReceiverError
from wafermonitor.receiver.transcode.protocol import Request

TURN_BYTES = 256 * 1024

Done = Callable[[Answer | ReceiverError], None]


class Waiting:
    """A request on its way and who wants to know. `done` is called once, unless the sender is gone before."""

    __slots__ = ("_done", "request", "site", "size")

    def __init__(self, request: Request, site: str, done: Done) -> None:
        self.request = request
        self.site = site
        self.size = len(request.body)
        self._done: Done | None = done

    @property
    def over(self) -> bool:
        """It is answered, or nobody waits for the answer."""
        return self._done is None

    def finish(self, outcome: Answer | ReceiverError) -> None:
        """Answer, once."""
        done, self._done = self._done, None
        if done is not None:
            done(outcome)

    def leave(self) -> None:
        """The sender went away; its body goes, too, though its place in the line stays until its turn."""
        self._done = None
        self.request = self.request._replace(body=b"")


class _Line:
    __slots__ = ("credit", "requests", "site")

    def __init__(self, site: str) -> None:
        self.site = site
        self.requests: deque[Waiting] = deque()
        self.credit = 0


class FairQueue:
    """Lines by site; only sites with something in line have one."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}
        self._turns: deque[_Line] = deque()
        self._number = 0
        self.bytes = 0

    def __len__(self) -> int:
        return self._number

    def push(self, waiting: Waiting) -> None:
        """To the end of its site's line."""
        self._line(waiting.site).requests.append(waiting)
        self._number += 1
        self.bytes += waiting.size

    def put_back(self, group: Sequence[Waiting]) -> None:
        """To the front of their lines, in the order in which they were taken."""
        for waiting in reversed(group):
            line = self._line(waiting.site)
            line.requests.appendleft(waiting)
            line.credit += waiting.size
            self._number += 1
            self.bytes += waiting.size

    def take(self, limit_bytes: int) -> list[Waiting]:
        """The next group: at most `limit_bytes`, but at least one if any waits. Those whose sender is gone are passed over."""
        group: list[Waiting] = []
        room = limit_bytes
        while self._turns:
            line = self._turns[0]
            if len(self._turns) == 1:
                line.credit = max(line.credit, room, line.requests[0].size)  # nobody else waits for a turn
            while line.requests:
                first = line.requests[0]
                if not first.over:
                    if first.size > line.credit:
                        break
                    if group and first.size > room:
                        return group
                    group.append(first)
                    room -= first.size
                    line.credit -= first.size
                line.requests.popleft()
                self._number -= 1
                self.bytes -= first.size
            self._turns.popleft()
            if line.requests:
                line.credit += TURN_BYTES
                self._turns.append(line)
            else:
                del self._lines[line.site]
        return group

    def _line(self, site: str) -> _Line:
        line = self._lines.get(site)
        if line is None:
            line = self._lines[site] = _Line(site)
            line.credit = TURN_BYTES
            self._turns.append(line)
        return line
