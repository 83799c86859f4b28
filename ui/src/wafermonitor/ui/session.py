"""One viewer: follows the address, looks again when something changed, keeps the last content when the API is gone.

In: the address of the request, messages of the browser (`hello`, `go`, `rows`, `visible`, `zone`, `place`, `retry`, `act`),
calls of `Live`. Out: a Panel template once, then new values of `Screen.shown`. Called by: app, once per page load.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import panel as pn

from wafermonitor.ui.acts import perform
from wafermonitor.ui.address import Run, parse_url, url
from wafermonitor.ui.chart import Chart
from wafermonitor.ui.config import Config
from wafermonitor.ui.errors import UiRejected, UiUnavailable
from wafermonitor.ui.live import Live
from wafermonitor.ui.pages import Page, Viewer, load
from wafermonitor.ui.render import render
from wafermonitor.ui.screen import Screen, shell
from wafermonitor.ui.source import Source

log = logging.getLogger(__name__)
BUSY_S = 2.0
"""Longest time between two looks while something on the page is open: spans arrive without a change of their run."""


class Session:
    """One open page. Its task ends when the browser leaves."""

    def __init__(self, source: Source, live: Live, config: Config) -> None:
        self._source = source
        self._live = live
        self._config = config
        self._screen = Screen()  # type: ignore[no-untyped-call]  # Panel's constructors have no annotations
        self._chart = Chart()
        self._viewer = Viewer(parse_url("/"))
        self._address = "/"
        self._visible = True
        self._page: Page | None = None
        self._hellos = 0
        self._stale_since: str | None = None
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._acts: set[asyncio.Task[None]] = set()
        self._told: dict[str, Any] | None = None
        self._document: Any = None
        self._stop_listening: Callable[[], None] = lambda: None

    def open(self, address: str) -> Any:
        """The template of the page at `address` (path and query); begins to follow it."""
        self._go(address)
        self._document = pn.state.curdoc
        self._screen.on_msg(self._message)
        self._stop_listening = self._live.listen(self._changed)
        self._task = asyncio.ensure_future(self._follow())
        pn.state.on_session_destroyed(lambda _: self.close())
        return shell(self._screen, self._chart.place, "WaferMonitor")

    def close(self) -> None:
        """Follow nothing any more."""
        self._stop_listening()
        self._document = None
        for task in (self._task, *self._acts):
            if task is not None:
                task.cancel()

    def _go(self, address: str) -> None:
        before, after = self._viewer.address, parse_url(address)
        same_run = isinstance(before, Run) and isinstance(after, Run) and before.run == after.run
        if before != after and not same_run:
            self._page = None  # what was seen there must not stand here when the API does not answer
        self._address, self._viewer = address, Viewer(after, zone=self._viewer.zone)

    def _changed(self) -> None:
        if self._visible:
            self._wake.set()

    def _message(self, event: Any) -> None:
        message = event.data if isinstance(event.data, dict) else {}
        if "hello" in message:
            # What was sent while the socket opened may be lost on its way: it is sent again, and the number makes it differ.
            self._hellos += 1
            self._screen.shown = self._screen.shown | {"hello": self._hellos}
        if isinstance(message.get("go"), str):
            self._go(message["go"][:4_000])
        if isinstance(message.get("rows"), int | float):
            self._viewer.top = max(int(message["rows"]), 0)
        if "visible" in message:
            self._visible = bool(message["visible"])
        if isinstance(message.get("zone"), int | float):
            self._chart.shift_minutes(float(message["zone"]))
        if isinstance(message.get("place"), str):
            self._viewer.zone = _zone(message["place"])
        if isinstance(message.get("act"), str):
            self._act(message["act"], message.get("given"), message.get("number"))
        if message.get("retry"):
            self._source.changed()
        self._wake.set()

    def _act(self, act: str, given: Any, number: Any) -> None:
        """Begin what the viewer asks to change; what came of it is shown with the next look."""
        fields = given if isinstance(given, dict) else {}
        task = asyncio.ensure_future(self._perform(act, fields, number))
        self._acts.add(task)
        task.add_done_callback(self._acts.discard)

    async def _perform(self, act: str, given: dict[str, Any], number: Any) -> None:
        try:
            words, done = await perform(self._source, act, given, self._viewer.zone), True
        except UiUnavailable:
            words, done = "The read API does not answer, so nothing was changed. Try again.", False
        except UiRejected as error:
            words, done = str(error), False
        except Exception:
            log.exception("the act %s failed", act[:40])
            words, done = "This could not be done; the log of wafer ui says why.", False
        self._told = {"number": number, "words": words, "done": done}
        self._wake.set()

    async def _follow(self) -> None:
        while True:
            self._wake.clear()
            begin_s = time.monotonic()
            try:
                if self._watched():
                    await self._look()
            except Exception:
                # A page that cannot be made must not end the session: it is reported and tried again.
                log.exception("the page %s could not be made", url(self._viewer.address))
            pause_s = max(self._pause_s() - (time.monotonic() - begin_s), 0.05)
            try:
                await asyncio.wait_for(self._wake.wait(), pause_s)
            except TimeoutError:
                continue

    def _watched(self) -> bool:
        """Whether a browser is there; before it came, whether its first page is still to be made."""
        if self._document is None:
            return False
        context = self._document.session_context
        if not self._hellos or context is None:
            return self._page is None
        return bool(context.session.connection_count > 0)

    def _pause_s(self) -> float:
        if not self._visible:
            return self._config.hidden_refresh_s
        busy = self._page is not None and self._page.busy
        return min(BUSY_S, self._config.refresh_s) if busy else self._config.refresh_s

    async def _look(self) -> None:
        """Load what the address asks for and show it; what was seen last stays where that fails."""
        address, viewer = self._address, self._viewer
        stale = None
        try:
            page = self._page = await load(self._source, viewer)
            self._stale_since = None
        except UiUnavailable:
            self._stale_since = self._stale_since or datetime.now(UTC).isoformat()
            stale = render("stale.html", since=self._stale_since, kept=self._page is not None)
            page = self._page or _unreachable()
        except UiRejected as error:
            page = self._page = _refused(str(error))
            self._stale_since = None
        self._show(address, page, stale)

    def _show(self, address: str, page: Page, stale: str | None) -> None:
        document = self._document
        if document is None:
            return
        shown = {
            "address": address,
            "html": page.html,
            "title": page.title if stale is None else f"stale: {page.title}",
            "nav": page.nav,
            "server_ms": page.server_ms if stale is None else None,  # the page goes on by the clock it knows
            "stale": stale,
            "hello": self._hellos,
            "told": self._told,
            "alerts": page.bell._asdict(),
        }

        def apply() -> None:
            self._screen.shown = shown
            self._chart.feed(page.series)

        document.add_next_tick_callback(apply)


def _zone(name: str) -> tzinfo:
    """The zone of this IANA name; UTC where nobody knows it."""
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        return UTC


def _unreachable() -> Page:
    html = render(
        "problem.html",
        heading="The read API does not answer",
        words="Nothing can be shown until it does. Check that wafer query is running; wafer doctor says which part is down.",
        href="",
        action="",
        retry=True,
    )
    return Page(html, "No answer · WaferMonitor", "", None)


def _refused(detail: str) -> Page:
    html = render(
        "problem.html",
        heading="The read API does not accept this view",
        words=detail,
        href="/runs",
        action="Start from all runs",
        retry=False,
    )
    return Page(html, "Not accepted · WaferMonitor", "", None)
