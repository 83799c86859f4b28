"""One line to the API's change stream for the whole process, fanned out to every session.

In: `query.client`'s stream. Out: a call of every listener when something changed, at most every `PACE_S`.
Called by: app (starts it), session (listens).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from wafermonitor.query.errors import QueryError
from wafermonitor.ui.source import Source

log = logging.getLogger(__name__)
PACE_S = 0.5
_RETRY_S = 5.0
Listener = Callable[[], None]


class Live:
    """The stream and its listeners."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._listeners: set[Listener] = set()
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    @property
    def listeners(self) -> int:
        """How many sessions listen."""
        return len(self._listeners)

    def start(self) -> None:
        """Begin to read the stream; it reconnects by itself."""
        if self._task is None:
            self._task = asyncio.ensure_future(self._run())

    async def close(self) -> None:
        """Stop reading."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` at every change; the answer stops that."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    async def _run(self) -> None:
        await asyncio.gather(self._read(), self._tell())

    async def _read(self) -> None:
        while True:
            try:
                async for _ in self._source.client.stream():
                    self._changed.set()
            except QueryError as error:
                log.warning("the change stream cannot be read, pages refresh by the clock: %s", error)
            except Exception:
                # One message that cannot be read must not end the live update of every page.
                log.exception("the change stream broke, pages refresh by the clock")
            await asyncio.sleep(_RETRY_S)

    async def _tell(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            self._source.changed()
            for listener in tuple(self._listeners):
                listener()
            await asyncio.sleep(PACE_S)
