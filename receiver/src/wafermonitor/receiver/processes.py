"""Several receivers on the same addresses: started, watched, replaced one by one, and stopped together.

In: a `Config` with `processes` above 1. Out: that many children (`wafer receiver`), on one gRPC and one HTTP port; the kernel
spreads connections over them (SO_REUSEPORT). Each has /metrics on an address of its own. Called by: `command`.

A child that ends is started again. SIGHUP replaces them one by one: the new one listens before the old one drains.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from wafermonitor.instrumentation.tether import tethered
from wafermonitor.receiver.config import PORTS, Config
from wafermonitor.receiver.errors import ChildUnavailable
from wafermonitor.receiver.http1.listener import reserved_socket

LOG = logging.getLogger(__name__)
COMMAND = (sys.executable, "-m", "wafermonitor.instrumentation.cli", "receiver", "--ready-json")
START_S = 60.0
MARGIN_S = 5.0
"""Beyond its drain, until a child is killed."""
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
LOOPBACK = "127.0.0.1:0"


class Ready(NamedTuple):
    """What a child says once it listens."""

    pid: int
    metrics: str
    line: Mapping[str, Any]


class Child:
    """A receiver process."""

    def __init__(self, process: asyncio.subprocess.Process, ready: Ready) -> None:
        self.process = process
        self.ready = ready
        self.born_s = time.monotonic()

    async def stop(self, drain_s: float) -> None:
        """Let it drain; kill it when it does not end."""
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            async with asyncio.timeout(drain_s + MARGIN_S):
                await self.process.wait()
        except TimeoutError:
            LOG.warning("receiver %d did not stop in time and is killed", self.ready.pid)
            self.process.kill()
            await self.process.wait()


class Processes:
    """The children of one start. `flags` are the operator's; the children get them by the environment."""

    def __init__(self, config: Config, flags: Mapping[str, Any]) -> None:
        self._config = config
        self._flags = flags
        self._held: list[socket.socket] = []
        self._addresses: dict[str, str] = {}
        self._children: dict[int, Child] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._replacing = asyncio.Lock()
        self._stopping = False

    @property
    def ready(self) -> dict[str, Any]:
        """One line for all: addresses, and pid and metrics of each."""
        first = dict(self._children[0].ready.line)
        each = [{"pid": child.ready.pid, "metrics": child.ready.metrics} for _, child in sorted(self._children.items())]
        return first | {"pid": os.getpid(), "processes": each}

    async def start(self) -> None:
        """Start every child. AddressRejected when a port is taken, ChildUnavailable when one does not get ready."""
        try:
            for option in ("grpc_address", "http_address"):
                address = getattr(self._config, option)
                held = reserved_socket(address, option)
                self._held.append(held)
                self._addresses[option] = f"{address.rpartition(':')[0]}:{held.getsockname()[1]}"
            for number in range(self._config.processes):
                self._children[number] = await self._child(number)
        except BaseException:
            await self.stop()
            raise
        self._keepers = [asyncio.create_task(self._keep(number)) for number in range(self._config.processes)]

    async def replace(self) -> None:
        """Rolling restart: for each, a new one that listens, then the end of the old one."""
        async with self._replacing:
            for number in range(self._config.processes):
                old = self._children[number]
                try:
                    self._children[number] = await self._child(number)
                except ChildUnavailable as error:
                    LOG.error("receiver %d stays: %s", old.ready.pid, error)  # noqa: TRY400 - the child has said why
                    return
                await old.stop(self._config.drain_s)

    async def stop(self) -> None:
        """Let all of them drain at once."""
        self._stopping = True
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await asyncio.gather(*(child.stop(self._config.drain_s) for child in self._children.values()))
        for held in self._held:
            held.close()

    async def _keep(self, number: int) -> None:
        """Start a child again when it ends by itself."""
        pause_s = 0.0
        ended: Child | None = None
        while not self._stopping:
            child = self._children[number]
            code = await child.process.wait()
            # It is the same one again when no other could be started: then it has not run since.
            ran_s = 0.0 if child is ended else time.monotonic() - child.born_s
            ended = child
            pause_s = next_pause_s(pause_s, ran_s)
            async with self._replacing:
                if self._children[number] is not child:
                    continue
                LOG.error("receiver %d ended with %d and is started again", child.ready.pid, code)
                await asyncio.sleep(pause_s)
                with contextlib.suppress(ChildUnavailable):
                    self._children[number] = await self._child(number)

    async def _child(self, number: int) -> Child:
        process = await asyncio.create_subprocess_exec(
            *tethered(COMMAND), env=self._environment(number), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        line = b""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_S):
                line = await process.stdout.readline()
        try:
            said = json.loads(line)
        except ValueError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            code = await process.wait()
            raise ChildUnavailable(f"a receiver process did not get ready (exit code {code}); its log says why") from None
        return Child(process, Ready(said["pid"], said["metrics"], said))

    def _environment(self, number: int) -> dict[str, str]:
        host, _, port = (self._config.metrics_address or LOOPBACK).rpartition(":")
        own = {
            **{name: str(value) for name, value in self._flags.items() if value is not None},
            **self._addresses,
            "processes": "1",
            "share_port": "true",
            "metrics_address": f"{host}:{(int(port) + number) % len(PORTS) if int(port) else 0}",
        }
        return os.environ | {f"WAFER_RECEIVER_{name.upper()}": value for name, value in own.items()}


def next_pause_s(last_s: float, ran_s: float) -> float:
    """How long to wait before a child is started again: twice as long each time, but anew after one that ran for long."""
    return min(2 * last_s, LONGEST_PAUSE_S) if last_s and ran_s <= LONGEST_PAUSE_S else FIRST_PAUSE_S


async def run(config: Config, flags: Mapping[str, Any], stop: asyncio.Event, told: Callable[[dict[str, Any]], None]) -> None:
    """Start the children, tell the ready line, wait for `stop`, let them drain."""
    processes = Processes(config, flags)
    await processes.start()
    loop = asyncio.get_running_loop()
    replacing: set[asyncio.Task[None]] = set()

    def replace() -> None:
        task = asyncio.create_task(processes.replace())
        replacing.add(task)
        task.add_done_callback(replacing.discard)

    try:
        loop.add_signal_handler(signal.SIGHUP, replace)
        told(processes.ready)
        await stop.wait()
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
        for task in replacing:
            task.cancel()
        await asyncio.gather(*replacing, return_exceptions=True)
        await processes.stop()
