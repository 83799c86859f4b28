"""One process that a supervisor keeps: started, started again when it ends, stopped in order.

In: a name, a command, an environment. Out: the running process. Called by: `supervise`.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from wafermonitor.instrumentation.tether import tethered

FIRST_DELAY_S: Final = 0.5
LAST_DELAY_S: Final = 30.0
STEADY_S: Final = 60.0
"""Who lived this long was well: the next delay is the first one again."""
STOP_S: Final = 20.0


class Say(Protocol):
    """Tell the operator: a word for programs, a line for people, and what belongs to it."""

    def __call__(self, event: str, text: str, **fields: object) -> None:
        """`fields` are values that JSON knows."""


class Child:
    """A process that ends when this one does, whatever happens to this one."""

    def __init__(self, name: str, command: list[str], environ: dict[str, str], say: Say) -> None:
        self.name = name
        self.restarts = 0
        self._command = command
        self._environ = environ
        self._say = say
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def code(self) -> int | None:
        """How it ended; None while it runs."""
        return None if self._process is None else self._process.returncode

    async def start(self) -> None:
        """Start it. Its session is its own, so that Ctrl-C reaches only the supervisor, which then stops it in order."""
        self._process = await asyncio.create_subprocess_exec(
            *tethered(self._command),
            env=self._environ, stdin=asyncio.subprocess.DEVNULL, stdout=sys.__stderr__, start_new_session=True,
        )  # fmt: skip

    async def keep(self, started: Callable[[], Awaitable[None]] | None = None) -> None:
        """Start it again whenever it ends, later each time; `started` is awaited after each new start. Never returns."""
        delay_s = FIRST_DELAY_S
        while True:
            began = time.monotonic()
            code = await self.ended()
            if time.monotonic() - began > STEADY_S:
                delay_s = FIRST_DELAY_S
            self._say("restart", f"the {self.name} ended ({how(code)}); starting it again in {delay_s:g} s", code=code)
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, LAST_DELAY_S)
            self.restarts += 1
            await self.start()
            if started is not None:
                await started()

    async def ended(self) -> int:
        """Wait for its end; the exit code, negative for a signal."""
        assert self._process is not None
        return await self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it still runs."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL when that has not helped within `STOP_S`."""
        if self._process is None:
            return
        self.signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), STOP_S)
        except TimeoutError:
            self._say("killed", f"the {self.name} did not stop within {STOP_S:g} s and was killed")
            self.signal(signal.SIGKILL)
            await self._process.wait()


def how(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
