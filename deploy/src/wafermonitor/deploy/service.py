"""One service as a child process: started, watched, started again when it dies, ended in order.

In: a command line, environment, a URL that says it is ready. Out: a running child whose lines are passed on and remembered.
Called by: `stack`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
import time
import urllib.request
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any

from wafermonitor.deploy.config import Config
from wafermonitor.deploy.errors import DeployUnavailable
from wafermonitor.instrumentation.tether import tethered

logger = logging.getLogger(__name__)
WAFER = (sys.executable, "-m", "wafermonitor.instrumentation.cli")
REMEMBERED_LINES = 30
HEALTHY_S = 30.0
POLL_S = 0.05
LAST_LINES_S = 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run: `arguments` of the `wafer` command, what to add to the environment, and where it says that it is ready.

    Without a `ready_url` the service is ready once it has printed a JSON object with `"ready": true` (`Service.announced`).
    """

    name: str
    arguments: tuple[str, ...]
    ready_url: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


class Service:
    """A child process that is kept running until `stop`."""

    def __init__(self, plan: Plan, config: Config, *, show: Callable[[str, str], None], held: tuple[int, ...] = ()) -> None:
        """`show` is given every line; the child keeps the file descriptors `held` open while it runs."""
        self.plan = plan
        self.restarts = 0
        self.announced: dict[str, Any] = {}
        self._config = config
        self._show = show
        self._held = held
        self._process: asyncio.subprocess.Process | None = None
        self._lines: deque[str] = deque(maxlen=REMEMBERED_LINES)
        self._keeper: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def pid(self) -> int | None:
        """The child's process id while it runs."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def start(self) -> None:
        """Start the child and return when it answers; DeployUnavailable with its last lines when it does not in time."""
        await self._spawn()
        deadline = time.monotonic() + self._config.start_s
        while True:
            # Its end first: another program may answer where it wanted to.
            process = self._process
            if process is None or process.returncode is not None:
                await asyncio.wait([self._reader], timeout=LAST_LINES_S)
                raise DeployUnavailable(self._explain("ended while starting"))
            if await self._ready():
                break
            if time.monotonic() > deadline:
                raise DeployUnavailable(self._explain(f"did not answer within {self._config.start_s:g} s"))
            await asyncio.sleep(POLL_S)
        self._keeper = asyncio.create_task(self._keep(), name=f"keep {self.plan.name}")

    async def _ready(self) -> bool:
        if self.plan.ready_url is None:
            return bool(self.announced)
        return await asyncio.to_thread(answers, self.plan.ready_url)

    async def stop(self) -> None:
        """Ask the child to end (SIGTERM), wait, and kill it only when it takes too long."""
        self._stopping = True
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), self._config.stop_s)
            except TimeoutError:
                logger.warning("%s did not end within %g s and is killed", self.plan.name, self._config.stop_s)
                process.kill()
                await process.wait()
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper

    async def _spawn(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *tethered([*WAFER, *self.plan.arguments]),
            env=os.environ | dict(self.plan.environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches only us; we end the children in order
            pass_fds=self._held,
        )
        self._reader = asyncio.create_task(self._read(self._process), name=f"read {self.plan.name}")

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:
                continue  # a line longer than the stream's limit: skip it, keep reading
            if not line:
                return
            text = line.decode("utf-8", "replace").rstrip()
            self._lines.append(text)
            if self.plan.ready_url is None and not self.announced and text.startswith("{"):
                with contextlib.suppress(ValueError):
                    found = json.loads(text)
                    self.announced = found if found.get("ready") else {}
            self._show(self.plan.name, text)

    async def _keep(self) -> None:
        """Start the child again when it ends by itself, with growing pauses."""
        pause_s = 0.5
        while True:
            process = self._process
            assert process is not None
            began = time.monotonic()
            code = await process.wait()
            if self._stopping:
                return
            pause_s = 0.5 if time.monotonic() - began > HEALTHY_S else min(pause_s * 2, self._config.restart_max_s)
            logger.warning("%s ended with code %s; starting it again in %g s", self.plan.name, code, pause_s)
            await asyncio.sleep(pause_s)
            self.restarts += 1
            await self._spawn()

    def _explain(self, what: str) -> str:
        last = "\n".join(f"  {line}" for line in self._lines) or "  (it printed nothing)"
        return f"{self.plan.name} {what}; its last lines:\n{last}"


def answers(url: str, timeout_s: float = 2.0) -> bool:
    """Does `url` answer 2xx?"""
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as response:  # noqa: S310 - our own loopback addresses
            return bool(200 <= response.status < 300)  # noqa: PLR2004 - HTTP's success range
    except (OSError, HTTPException, ValueError):
        return False
