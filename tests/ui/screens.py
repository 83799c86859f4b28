"""A read API over a filled memory store and the screens over that, in a thread of their own, under a clock that stands still.

In: what to store, or nothing. Out: `Screens` with the URL of the pages. Called by: `conftest.py`, `screenshots.py`.

They run in their own thread because Playwright's blocking API and an event loop cannot share one.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from tests.ui import seed, seed_watch
from wafermonitor.query import server
from wafermonitor.query.client import Client
from wafermonitor.query.config import Config as QueryConfig
from wafermonitor.runs.records import Batch
from wafermonitor.storage import memory
from wafermonitor.storage.watch import Outcome
from wafermonitor.ui import Config

T = TypeVar("T")
NOW = 1_780_041_600 * seed.SECOND + 437_000_000  # 2026-05-29 08:00 UTC, in the middle of a shift
WAIT_S = 30
ANSWERS = 20
"""More than there are jobs with open runs in the seeded fab."""


class Clock:
    """Now in ns, moved by hand."""

    def __init__(self, now_ns: int) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        return self.now_ns

    def pass_s(self, seconds: float) -> None:
        """Move on."""
        self.now_ns += int(seconds * seed.SECOND)


class Screens:
    """The three services; `url` is the screens', `ids` name the seeded runs. `watched`: alerts and expected runs, too."""

    def __init__(self, *, filled: bool = True, watched: bool = False, unused_ms: int = 30_000) -> None:
        self.clock = Clock(NOW)
        self.storage = memory.Storage(clock=self.clock)
        batch, self.ids = seed.fill(NOW)
        self._batch = batch if filled else Batch()
        self._watched = watched
        self.story: seed_watch.Story | None = None
        self._unused_ms = unused_ms
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="screens", daemon=True)
        self._thread.start()
        self.call(self._start())

    @property
    def url(self) -> str:
        """Where the pages are."""
        return self.ui.url

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the services' loop and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(WAIT_S)

    def write(self, batch: Batch) -> None:
        """Store more."""
        self.call(self.storage.writer.write([batch]))

    def store(self, **outcome: Any) -> None:
        """Store what a tick of an evaluator would."""
        self.call(self._tick(Outcome(**outcome)))

    def without_watch(self) -> None:
        """The read API comes back over a store that keeps no alerts."""
        self.storage.watch = None
        self.stop_api()
        self.start_api()

    def learn(self) -> None:
        """Ask the read API for the open runs until it knows how their jobs go: a list learns that for few jobs at a time."""
        with Client(self.api.url) as client:
            for _ in range(ANSWERS):
                client.jobs(state=["running", "silent", "unknown", "lost"], limit=1000)

    def stop_api(self) -> None:
        """The read API goes away."""
        self.call(self.api.stop())

    def start_api(self) -> None:
        """It comes back at the same address."""
        address = self.api.url.removeprefix("http://")
        self.api = self.call(server.start(self.storage, self._query(address), clock=self.clock))

    def restart_ui(self) -> None:
        """The screens' process ends and comes back at the same address."""
        self.call(self._restart_ui())

    def stop(self) -> None:
        """End everything."""
        self.call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_S)
        self._loop.close()

    async def _start(self) -> None:
        from wafermonitor.ui import app

        await self.storage.writer.write([self._batch])
        if self._watched:
            batch, ticks = seed_watch.month(NOW)
            await self.storage.writer.write([batch])
            self.story = await seed_watch.fill(self.storage.watch, NOW, self.ids, ticks)
        self.api = await server.start(self.storage, self._query("127.0.0.1:0"), clock=self.clock)
        config = Config(address="127.0.0.1:0", api_url=self.api.url, refresh_s=0.5)
        self.ui = await app.start(config, unused_ms=self._unused_ms, check_ms=200)

    async def _tick(self, outcome: Outcome) -> None:
        async with self.storage.watch.lead() as lead:
            await lead.store(outcome)

    async def _restart_ui(self) -> None:
        from wafermonitor.ui import app

        address = self.ui.url.removeprefix("http://")
        await self.ui.stop()
        self.ui = await app.start(Config(address=address, api_url=self.api.url, refresh_s=0.5), check_ms=200)

    async def _stop(self) -> None:
        await self.ui.stop()
        await self.api.stop()
        await self.storage.close()
        rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    @staticmethod
    def _query(address: str) -> QueryConfig:
        return QueryConfig(address=address, stream_poll_s=0.05, stream_states_s=0.2, stop_s=1.0)
