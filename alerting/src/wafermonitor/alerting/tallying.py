"""How many runs ended in the windows that judges ask for: read when it is asked for, as a judge itself reads nothing.

In: a reader. Out: tallies by window. Called by: evaluator.

A window ends at a whole part of its length, so that a long one is not counted anew at each tick.
"""

from __future__ import annotations

from collections.abc import Sequence

from wafermonitor.runs.state import SECOND_NS
from wafermonitor.storage.protocol import Reader, Tally

_PARTS = 120
_LONGEST_STEP_NS = 60 * SECOND_NS


class WindowWanted(Exception):  # noqa: N818 - no error: a judge's question that is not answered yet
    """A judge asks for a window that was not read."""

    def __init__(self, window_s: float, ago_s: float) -> None:
        super().__init__(f"tallies of {window_s:g} s, {ago_s:g} s ago")
        self.window_s = window_s
        self.ago_s = ago_s


class Tallies:
    """The tallies that one evaluator has read."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._now_ns = 0
        self._known: dict[tuple[float, float], tuple[int, list[Tally]]] = {}

    def begin(self, now_ns: int) -> None:
        """Another tick."""
        self._now_ns = now_ns

    def forget(self) -> None:
        """Another process evaluated meanwhile."""
        self._known.clear()

    def __call__(self, window_s: float, ago_s: float = 0.0) -> Sequence[Tally]:
        """As judges call it. Raises WindowWanted."""
        known = self._known.get((window_s, ago_s))
        if known is None or known[0] != self._to_ns(window_s, ago_s):
            raise WindowWanted(window_s, ago_s)
        return known[1]

    async def read(self, window_s: float, ago_s: float = 0.0) -> None:
        """Answer the question."""
        to_ns = self._to_ns(window_s, ago_s)
        found = await self._reader.tallies(to_ns - round(window_s * SECOND_NS), to_ns)
        self._known[window_s, ago_s] = to_ns, found

    def _to_ns(self, window_s: float, ago_s: float) -> int:
        step_ns = max(SECOND_NS, min(_LONGEST_STEP_NS, round(window_s * SECOND_NS) // _PARTS))
        at_ns = self._now_ns - round(ago_s * SECOND_NS)
        return at_ns // step_ns * step_ns + step_ns
